/* shutdown, and what becomes of clients that nobody has accepted. */
#include "calls.h"

static void ended(const char *how, int mode) {
    struct address address = free_address();
    int listener = listening_at(&address);
    char key[64];
    snprintf(key, sizeof key, "%s_shutdown", how);
    outcome(key, shutdown(listener, mode));
    if (mode == SHUT_WR) {
        serve_one("writes_nothing_anyway", listener, &address);
        return;
    }
    outcome("accept", accept(listener, NULL, NULL));
    outcome("accept_again", accept(listener, NULL, NULL));
    whether("refuses", refuses_soon(&address));
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    say("ready", "%d", MUST(poll(&ready, 1, 0)));
    whether("hangs_up", ready.revents & POLLHUP);
    say("listens", "%d", option(listener, SOL_SOCKET, SO_ACCEPTCONN));
    outcome("shutdown_again", shutdown(listener, mode));
    MUST(close(listener));
}

CASE(a_listener_is_shut_down) {
    ended("read", SHUT_RD);
    ended("write", SHUT_WR);
    ended("both", SHUT_RDWR);
    struct address address = free_address();
    int bound = bound_at(&address);
    outcome("bound", shutdown(bound, SHUT_RDWR));
    int listener = listening_at(&(struct address){.storage = loopback().storage, .length = address.length});
    outcome("unknown_mode", shutdown(listener, 9));
}

CASE(a_listener_listens_again_after_shutdown) {
    struct address address = free_address();
    int listener = socket_for(&address);
    set_option(listener, SOL_SOCKET, SO_REUSEADDR, 1);
    MUST(bind(listener, SA(&address), address.length));
    MUST(listen(listener, 16));
    serve_one("before", listener, &address);
    MUST(shutdown(listener, SHUT_RDWR));
    whether("refuses", refuses_soon(&address));
    outcome("listen", listen(listener, 16));
    struct address name = name_of(listener);
    whether("same_address", is_same(&name, &address));
    serve_one("again", listener, &name);
}

CASE(a_shutdown_ends_it_for_every_process) {
    struct address address = free_address();
    int listener = listening_at(&address);
    pid_t child = make_child();
    if (child == 0) {
        MUST(shutdown(listener, SHUT_RDWR));
        done();
    }
    await_child(child);
    outcome("parent", accept(listener, NULL, NULL));
}

/* What a client reads whom nobody has accepted. */
static void say_end(const char *key, int client) {
    struct pollfd ready = {.fd = client, .events = POLLIN};
    if (MUST(poll(&ready, 1, 5000)) == 0)
        return say(key, "nothing");
    char byte;
    ssize_t result = read(client, &byte, 1);
    if (result < 0)
        outcome(key, (int)result);
    else
        say(key, "%zd", result);
}

CASE(clients_of_a_closed_listener_are_reset) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int silent = dial(&address), asking = dial(&address);
    MUST((int)write(asking, "?", 1));
    becomes_readable(listener);
    MUST(close(listener));
    say_end("silent", silent);
    say_end("asking", asking);
}

CASE(clients_of_a_shut_down_listener_are_reset) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int client = dial(&address);
    becomes_readable(listener);
    MUST(shutdown(listener, SHUT_RD));
    outcome("accept", accept(listener, NULL, NULL));
    say_end("client", client);
}

CASE(connections_outlive_their_listener) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int client = dial(&address);
    int server = MUST(accept(listener, NULL, NULL));
    MUST(close(listener));
    whether("refuses", refuses_soon(&address));
    whether("talks", talks(server, client));
    MUST(shutdown(server, SHUT_WR));
    say_end("client", client);
    MUST((int)write(client, "?", 1));
    say_end("server", server);
}

CASE(a_connection_is_closed_in_every_way) {
    struct address address = free_address();
    int listener = listening_at(&address), clients[6], servers[6];
    for (int i = 0; i < 6; i++) {
        clients[i] = dial(&address);
        servers[i] = MUST(accept(listener, NULL, NULL));
    }
    MUST(close(servers[0]));
    MUST(dup2(1, servers[1]));
    MUST(dup3(1, servers[2], O_CLOEXEC));
    MUST(close_range(servers[3], servers[3], 0));
    FILE *stream = fdopen(servers[4], "r+");
    fclose(stream);
    struct linger linger = {1, 0};
    MUST(setsockopt(servers[5], SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    MUST(close(servers[5]));
    static const char *const ways[] = {"close", "dup2", "dup3", "close_range", "fclose", "reset"};
    for (int i = 0; i < 6; i++)
        say_end(ways[i], clients[i]);
}

CASE(a_connection_goes_on_in_a_child) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int client = dial(&address);
    int server = MUST(accept(listener, NULL, NULL));
    pid_t child = make_child();
    if (child == 0) {
        MUST(close(listener));
        whether("talks", talks(server, client));
        done();
    }
    MUST(close(server));
    await_child(child);
    say_end("client", client);
    serve_one("parent", listener, &address);
}
