// Java's own com.sun.net.httpserver, a thread per request: answers with its pid.
//
//   javac Server.java && java Server 127.0.0.1 8000

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

public class Server {
    public static void main(String[] args) throws IOException {
        String host = args.length > 0 ? args[0] : "127.0.0.1";
        int port = args.length > 1 ? Integer.parseInt(args[1]) : 8000;
        byte[] body = (ProcessHandle.current().pid() + "\n").getBytes();

        HttpServer server = HttpServer.create(new InetSocketAddress(host, port), 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", exchange -> {
            exchange.getResponseHeaders().set("Content-Type", "text/plain");
            exchange.sendResponseHeaders(200, body.length);
            try (var out = exchange.getResponseBody()) {
                out.write(body);
            }
        });
        server.start();
        InetSocketAddress address = server.getAddress();
        System.out.println("listening on " + address.getAddress().getHostAddress() + ":" + address.getPort());
    }
}
