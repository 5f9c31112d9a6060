/* Options: what a listening socket says of itself, and what its connections inherit. */
#include "calls.h"

static const struct number {
    const char *name;
    int level, option, value;
} numbers[] = {
    {"no_delay", IPPROTO_TCP, TCP_NODELAY, 1},
    {"keep_alive", SOL_SOCKET, SO_KEEPALIVE, 1},
    {"keep_idle", IPPROTO_TCP, TCP_KEEPIDLE, 77},
    {"keep_interval", IPPROTO_TCP, TCP_KEEPINTVL, 11},
    {"keep_count", IPPROTO_TCP, TCP_KEEPCNT, 5},
    {"user_timeout", IPPROTO_TCP, TCP_USER_TIMEOUT, 7000},
    {"receive_buffer", SOL_SOCKET, SO_RCVBUF, 65536},
    {"send_buffer", SOL_SOCKET, SO_SNDBUF, 32768},
    {"type_of_service", IPPROTO_IP, IP_TOS, 0x10},
};

enum { NUMBERS = sizeof numbers / sizeof *numbers };

static void set_all(int socket) {
    for (int i = 0; i < NUMBERS; i++)
        set_option(socket, numbers[i].level, numbers[i].option, numbers[i].value);
    struct linger linger = {1, 3};
    MUST(setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
}

static void say_all(const char *prefix, int socket) {
    char key[64];
    for (int i = 0; i < NUMBERS; i++) {
        snprintf(key, sizeof key, "%s_%s", prefix, numbers[i].name);
        say(key, "%d", option(socket, numbers[i].level, numbers[i].option));
    }
    struct linger linger;
    socklen_t length = sizeof linger;
    MUST(getsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, &length));
    snprintf(key, sizeof key, "%s_linger", prefix);
    say(key, "%d,%d", linger.l_onoff, linger.l_linger);
}

/* A connection that has the options. What is set on a socket that listens may come to a client a
 * moment late when another process holds that socket, so it is waited for. */
static int accepted_with_all(int listener, const struct address *address) {
    enum { TRIES = 300 };
    for (int i = 0;; i++) {
        int client = dial(address);
        int server = MUST(accept(listener, NULL, NULL));
        bool has_all = true;
        for (int j = 0; j < NUMBERS; j++) {
            int value = option(server, numbers[j].level, numbers[j].option);
            has_all &= value == numbers[j].value || value == 2 * numbers[j].value;
        }
        if (has_all || i == TRIES)
            return server;
        close(client);
        close(server);
        poll(NULL, 0, 1);
    }
}

CASE(options_set_before_bind_are_inherited) {
    struct address address = free_address();
    int listener = socket_for(&address);
    set_all(listener);
    MUST(bind(listener, SA(&address), address.length));
    MUST(listen(listener, 16));
    say_all("listener", listener);
    dial(&address);
    say_all("accepted", MUST(accept(listener, NULL, NULL)));
}

CASE(options_set_after_bind_are_inherited) {
    struct address address = free_address();
    int listener = bound_at(&address);
    set_all(listener);
    MUST(listen(listener, 16));
    say_all("listener", listener);
    say_all("accepted", accepted_with_all(listener, &address));
}

CASE(options_set_after_listen_are_inherited) {
    struct address address = free_address();
    int listener = listening_at(&address);
    set_all(listener);
    say_all("listener", listener);
    say_all("accepted", accepted_with_all(listener, &address));
}

CASE(options_on_port_0_are_inherited) {
    struct address any = loopback();
    int listener = socket_for(&any);
    set_all(listener);
    MUST(bind(listener, SA(&any), any.length));
    MUST(listen(listener, 16));
    struct address name = name_of(listener);
    dial(&name);
    say_all("accepted", MUST(accept(listener, NULL, NULL)));
}

CASE(options_of_ipv6_are_inherited) {
    if (!has_ipv6())
        return say("ipv6", "none");
    struct address any = ipv6(&in6addr_loopback, 0);
    int listener = socket_for(&any);
    set_option(listener, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
    set_option(listener, IPPROTO_TCP, TCP_NODELAY, 1);
    MUST(bind(listener, SA(&any), any.length));
    MUST(listen(listener, 16));
    say("class", "%d", option(listener, IPPROTO_IPV6, IPV6_TCLASS));
    struct address name = name_of(listener);
    dial(&name);
    int server = MUST(accept(listener, NULL, NULL));
    say("accepted_class", "%d", option(server, IPPROTO_IPV6, IPV6_TCLASS));
    say("accepted_no_delay", "%d", option(server, IPPROTO_TCP, TCP_NODELAY));
}

CASE(nothing_is_inherited_that_was_not_set) {
    struct address address = free_address();
    int listener = listening_at(&address);
    dial(&address);
    int server = MUST(accept(listener, NULL, NULL));
    for (int i = 0; i < NUMBERS; i++) {
        /* The sizes of the buffers follow the connection. */
        if (numbers[i].option == SO_RCVBUF || numbers[i].option == SO_SNDBUF)
            continue;
        say(numbers[i].name, "%d", option(server, numbers[i].level, numbers[i].option));
    }
    say("reuse_address", "%d", option(server, SOL_SOCKET, SO_REUSEADDR));
    say("listens", "%d", option(server, SOL_SOCKET, SO_ACCEPTCONN));
}

CASE(a_late_option_is_taken_back) {
    struct address address = free_address();
    int listener = socket_for(&address);
    set_option(listener, IPPROTO_TCP, TCP_NODELAY, 1);
    MUST(bind(listener, SA(&address), address.length));
    MUST(listen(listener, 16));
    set_option(listener, IPPROTO_TCP, TCP_NODELAY, 0);
    int inherited = 1;
    for (int i = 0; i < 2000 && inherited; i++) {
        int client = dial(&address);
        int server = MUST(accept(listener, NULL, NULL));
        inherited = option(server, IPPROTO_TCP, TCP_NODELAY);
        close(client);
        close(server);
    }
    say("inherited", "%d", inherited);
}

CASE(a_listener_reuses_its_address) {
    struct address address = free_address();
    int listener = socket_for(&address);
    set_option(listener, SOL_SOCKET, SO_REUSEADDR, 1);
    MUST(bind(listener, SA(&address), address.length));
    MUST(listen(listener, 16));
    dial(&address);
    int server = MUST(accept(listener, NULL, NULL));
    say("listener", "%d", option(listener, SOL_SOCKET, SO_REUSEADDR));
    say("accepted", "%d", option(server, SOL_SOCKET, SO_REUSEADDR));
}

static void describe(const char *prefix, int socket) {
    static const struct { const char *name; int level, option; } asked[] = {
        {"type", SOL_SOCKET, SO_TYPE},
        {"domain", SOL_SOCKET, SO_DOMAIN},
        {"protocol", SOL_SOCKET, SO_PROTOCOL},
        {"listens", SOL_SOCKET, SO_ACCEPTCONN},
        {"error", SOL_SOCKET, SO_ERROR},
        {"reuse_address", SOL_SOCKET, SO_REUSEADDR},
        {"reuse_port", SOL_SOCKET, SO_REUSEPORT},
        {"keep_alive", SOL_SOCKET, SO_KEEPALIVE},
        {"broadcast", SOL_SOCKET, SO_BROADCAST},
        {"receive_buffer", SOL_SOCKET, SO_RCVBUF},
        {"send_buffer", SOL_SOCKET, SO_SNDBUF},
        {"low_water", SOL_SOCKET, SO_RCVLOWAT},
        {"no_delay", IPPROTO_TCP, TCP_NODELAY},
        {"defer_accept", IPPROTO_TCP, TCP_DEFER_ACCEPT},
        {"fast_open", IPPROTO_TCP, TCP_FASTOPEN},
        {"time_to_live", IPPROTO_IP, IP_TTL},
        {"unknown", SOL_SOCKET, 9999},
    };
    char key[64];
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        int value = 0;
        socklen_t length = sizeof value;
        int result = getsockopt(socket, asked[i].level, asked[i].option, &value, &length);
        snprintf(key, sizeof key, "%s_%s", prefix, asked[i].name);
        if (result < 0)
            outcome(key, result);
        else
            say(key, "%d (%u bytes)", value, length);
    }
    struct tcp_info info;
    socklen_t length = sizeof info;
    snprintf(key, sizeof key, "%s_tcp_state", prefix);
    if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) == 0)
        say(key, "%d", info.tcpi_state);
    struct stat status;
    MUST(fstat(socket, &status));
    snprintf(key, sizeof key, "%s_is_socket", prefix);
    whether(key, S_ISSOCK(status.st_mode));
    char path[64], target[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", socket);
    MUST((int)readlink(path, target, sizeof target - 1));
    snprintf(key, sizeof key, "%s_link", prefix);
    say(key, "%.8s", target);
    snprintf(key, sizeof key, "%s_seek", prefix);
    outcome(key, (int)lseek(socket, 0, SEEK_CUR));
    snprintf(key, sizeof key, "%s_access_mode", prefix);
    say(key, "%d", MUST(fcntl(socket, F_GETFL)) & O_ACCMODE);
    int waiting = -1;
    snprintf(key, sizeof key, "%s_bytes_waiting", prefix);
    outcome(key, ioctl(socket, FIONREAD, &waiting));
}

CASE(a_listener_describes_itself) {
    struct address address = free_address();
    int listener = socket_for(&address);
    describe("fresh", listener);
    MUST(bind(listener, SA(&address), address.length));
    describe("bound", listener);
    MUST(listen(listener, 16));
    describe("listening", listener);
    set_option(listener, SOL_SOCKET, SO_REUSEPORT, 1);
    set_option(listener, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(listener, SOL_SOCKET, SO_RCVBUF, 50000);
    describe("changed", listener);
}

CASE(wrong_options_are_refused) {
    struct address address = free_address();
    int listener = listening_at(&address), one = 1;
    outcome("set_unknown", setsockopt(listener, SOL_SOCKET, 9999, &one, sizeof one));
    outcome("set_type", setsockopt(listener, SOL_SOCKET, SO_TYPE, &one, sizeof one));
    outcome("set_listens", setsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &one, sizeof one));
    outcome("set_short", setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &one, 1));
    outcome("set_level", setsockopt(listener, 9999, 1, &one, sizeof one));
    outcome("set_closed", setsockopt(900, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one));
    socklen_t length = sizeof one;
    outcome("get_closed", getsockopt(900, SOL_SOCKET, SO_KEEPALIVE, &one, &length));
    outcome("get_level", getsockopt(listener, 9999, 1, &one, &length));
    length = (socklen_t)-1;
    outcome("get_negative", getsockopt(listener, SOL_SOCKET, SO_TYPE, &one, &length));
    length = 1;
    outcome("get_short", getsockopt(listener, SOL_SOCKET, SO_TYPE, &one, &length));
    say("short_length", "%u", length);
    length = 0;
    outcome("get_nothing", getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &one, &length));
    char room[64];
    length = sizeof room;
    outcome("get_long", getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, room, &length));
    say("long_length", "%u", length);
}

CASE(a_connection_is_not_the_listener) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int client = dial(&address);
    int server = MUST(accept(listener, NULL, NULL));
    say("type", "%d", option(server, SOL_SOCKET, SO_TYPE));
    say("domain", "%d", option(server, SOL_SOCKET, SO_DOMAIN));
    say("protocol", "%d", option(server, SOL_SOCKET, SO_PROTOCOL));
    say("listens", "%d", option(server, SOL_SOCKET, SO_ACCEPTCONN));
    set_option(server, IPPROTO_TCP, TCP_NODELAY, 1);
    say("no_delay", "%d", option(server, IPPROTO_TCP, TCP_NODELAY));
    say("no_delay_of_the_listener", "%d", option(listener, IPPROTO_TCP, TCP_NODELAY));
    outcome("shutdown", shutdown(server, SHUT_WR));
    char byte;
    say("client_reads", "%zd", read(client, &byte, 1));
}

CASE(a_deferred_client_comes_with_its_first_bytes) {
    struct address address = free_address();
    int listener = bound_at(&address);
    set_option(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
    MUST(listen(listener, 16));
    say("seconds", "%d", option(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT));
    int client = dial(&address);
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    say("without_bytes", "%d", poll(&ready, 1, 150));
    MUST((int)write(client, "?", 1));
    whether("with_bytes", becomes_readable(listener));
    int server = MUST(accept(listener, NULL, NULL));
    whether("at_once", is_readable(server));
}

CASE(a_socket_of_fast_open_listens) {
    struct address address = free_address();
    int listener = bound_at(&address);
    int most = 5;
    outcome("set", setsockopt(listener, IPPROTO_TCP, TCP_FASTOPEN, &most, sizeof most));
    MUST(listen(listener, 16));
    say("most", "%d", option(listener, IPPROTO_TCP, TCP_FASTOPEN));
    serve_one("served", listener, &address);
}
