<?php
// PHP's built-in server: answers with its pid.
//
//   php -S 127.0.0.1:8000 index.php
header('Content-Type: text/plain');
echo getmypid(), "\n";
