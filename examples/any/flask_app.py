"""A Flask application: answers with its pid.

    flask --app flask_app run --host 127.0.0.1 --port 8000 --debug
"""

import os

from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    return f"{os.getpid()}\n"
