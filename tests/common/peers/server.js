// What Node, its cluster and pm2 are measured with: one short answer to each request.
//
//     KIND=net HOST=127.0.0.1 PORT=8000 node server.js     alone: under rr-master, or in pm2's cluster
//     KIND=http … WORKERS=4 node server.js                 Node's own cluster
//
// NODE_CLUSTER_SCHED_POLICY says who accepts in the cluster: the primary (rr), or every worker (none).
// PAD is the length of a header that makes an answer as long as everybody's.
'use strict';

const cluster = require('node:cluster');
const http = require('node:http');
const net = require('node:net');

const { KIND, HOST, PORT, PAD = 0, WORKERS = 0 } = process.env;
const body = 'Hello, world!\n';
const padding = 'x'.repeat(Number(PAD));

// The least that answers: what was asked is not parsed, and comes in one piece from load generators.
function bare() {
    const answer = (connection) =>
        'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n' +
        `Content-Length: ${body.length}\r\nConnection: ${connection}\r\nX-Pad: ${padding}\r\n\r\n${body}`;
    const last = answer('close');
    const more = answer('keep-alive');
    return net.createServer((socket) => {
        socket.on('error', () => {});
        socket.on('data', (request) => {
            if (request.includes(' HTTP/1.0\r\n')) socket.end(last);
            else socket.write(more);
        });
    });
}

function framework() {
    const headers = { 'Content-Type': 'text/plain', 'Content-Length': body.length, 'X-Pad': padding };
    return http.createServer((_, response) => response.writeHead(200, headers).end(body));
}

if (cluster.isPrimary && WORKERS > 0) {
    for (let slot = 0; slot < WORKERS; slot++) cluster.fork();
} else {
    const server = KIND === 'net' ? bare() : framework();
    server.listen({ host: HOST, port: Number(PORT), backlog: 4096 });
}
