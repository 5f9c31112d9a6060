// Node's own http server: answers with its pid, and echoes what comes over a WebSocket.
//
//   node server.js 127.0.0.1 8000
'use strict';
const { createHash } = require('node:crypto');
const http = require('node:http');

const [host = '127.0.0.1', port = '8000'] = process.argv.slice(2);

const server = http.createServer((request, response) => {
  response.setHeader('Content-Type', 'text/plain');
  response.end(`${process.pid}\n`);
});

// RFC 6455, as far as an echo of short messages needs it.
server.on('upgrade', (request, socket) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = createHash('sha1').update(key).digest('base64');
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  let received = Buffer.alloc(0);
  socket.on('data', (data) => {
    received = Buffer.concat([received, data]);
    while (received.length >= 6 && received.length >= 6 + (received[1] & 0x7f)) {
      const length = received[1] & 0x7f;
      if (length > 125) return socket.destroy();
      const mask = received.subarray(2, 6);
      const message = received.subarray(6, 6 + length).map((byte, at) => byte ^ mask[at % 4]);
      socket.write(Buffer.concat([Buffer.from([received[0], length]), message]));
      if ((received[0] & 0x0f) === 8) return socket.end();
      received = received.subarray(6 + length);
    }
  });
  socket.on('error', () => socket.destroy());
});

server.listen(Number(port), host, () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});
