// Express answers with its pid.
//
//   npm install express
//   node express.js 127.0.0.1 8000
'use strict';
const express = require('express');

const [host = '127.0.0.1', port = '8000'] = process.argv.slice(2);

const app = express();
app.get('/', (request, response) => {
  response.type('text/plain').send(`${process.pid}\n`);
});

const server = app.listen(Number(port), host, () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});
