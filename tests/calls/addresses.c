/* bind, listen, connect, getsockname, getpeername: where a socket is, and where it may not be. */
#include "calls.h"

#include <arpa/inet.h>

static int try_bind(const char *key, int socket, const struct address *address) {
    return outcome(key, bind(socket, SA(address), address->length));
}

static int reusing(const struct address *address, int option) {
    int fresh = socket_for(address);
    set_option(fresh, SOL_SOCKET, option, 1);
    return fresh;
}

CASE(port_0_is_known_before_listen) {
    struct address any = loopback();
    int listener = bound_at(&any);
    struct address before = name_of(listener);
    whether("has_port", port_of(&before) != 0);
    struct address expected = with_port(any, port_of(&before));
    whether("has_host", is_same(&before, &expected));
    MUST(listen(listener, 16));
    struct address after = name_of(listener);
    whether("same_after_listen", is_same(&before, &after));
    serve_one("served", listener, &before);
}

CASE(port_0_is_known_after_listen) {
    struct address any = loopback();
    int listener = listening_at(&any);
    struct address name = name_of(listener);
    struct address expected = with_port(any, port_of(&name));
    whether("has_port", port_of(&name) != 0);
    whether("has_host", is_same(&name, &expected));
    serve_one("served", listener, &name);
}

CASE(every_port_0_is_another_port) {
    struct address any = loopback();
    int one = listening_at(&any), other = listening_at(&any);
    struct address first = name_of(one), second = name_of(other);
    whether("different", !is_same(&first, &second));
    serve_one("one", one, &first);
    serve_one("other", other, &second);
}

CASE(listen_without_bind_chooses_a_port) {
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
    struct address before = name_of(listener), unbound = ipv4(INADDR_ANY, 0);
    whether("nowhere_before", is_same(&before, &unbound));
    outcome("listen", listen(listener, 16));
    struct address name = name_of(listener);
    struct address expected = ipv4(INADDR_ANY, port_of(&name));
    whether("everywhere", is_same(&name, &expected) && port_of(&name) != 0);
    struct address near = ipv4(INADDR_LOOPBACK, port_of(&name));
    serve_one("served", listener, &near);
}

CASE(an_address_of_all_hosts_is_reached_by_each) {
    struct address any = ipv4(INADDR_ANY, 0);
    int listener = listening_at(&any);
    struct address name = name_of(listener);
    struct address near = with_port(loopback(), port_of(&name));
    int client = dial(&near);
    int server = MUST(accept(listener, NULL, NULL));
    struct address local = name_of(server), own = name_of(client), peer = peer_of(server);
    whether("accepted_knows_where", is_same(&local, &near));
    whether("accepted_knows_who", is_same(&peer, &own));
}

CASE(a_name_is_cut_to_its_room) {
    struct address address = free_address();
    int listener = listening_at(&address);
    unsigned char room[32];
    memset(room, 0xee, sizeof room);
    socklen_t length = 4;
    outcome("short", getsockname(listener, (struct sockaddr *)room, &length));
    say("length", "%u", length);
    whether("begins_right", memcmp(room, &address.storage, 4) == 0 && room[4] == 0xee);
    length = (socklen_t)-1;
    outcome("negative", getsockname(listener, (struct sockaddr *)room, &length));
}

CASE(a_listener_has_no_peer) {
    struct address address = free_address();
    int listener = bound_at(&address);
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    outcome("bound", getpeername(listener, (struct sockaddr *)&peer, &length));
    MUST(listen(listener, 16));
    outcome("listening", getpeername(listener, (struct sockaddr *)&peer, &length));
}

CASE(a_port_in_use_is_refused) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int second = socket_for(&address);
    try_bind("same_process", second, &address);
    int third = reusing(&address, SO_REUSEADDR);
    try_bind("with_reuseaddr", third, &address);
    int fourth = reusing(&address, SO_REUSEPORT);
    try_bind("with_reuseport", fourth, &address);
    struct address everywhere = ipv4(INADDR_ANY, port_of(&address));
    int fifth = socket_for(&everywhere);
    try_bind("everywhere", fifth, &everywhere);
    serve_one("still_served", listener, &address);
    struct address other = free_address();
    try_bind("refused_one_elsewhere", second, &other);
    outcome("listen", listen(second, 16));
    serve_one("served_elsewhere", second, &other);
}

CASE(a_bound_port_is_in_use_before_listen) {
    struct address address = free_address();
    int one = bound_at(&address);
    int other = socket_for(&address);
    try_bind("other", other, &address);
    outcome("listen", listen(one, 16));
    serve_one("served", one, &address);
}

CASE(two_with_reuseaddr_are_bound_and_one_listens) {
    struct address address = free_address();
    int one = reusing(&address, SO_REUSEADDR), other = reusing(&address, SO_REUSEADDR);
    try_bind("one", one, &address);
    try_bind("other", other, &address);
    outcome("listen_one", listen(one, 16));
    outcome("listen_other", listen(other, 16));
    serve_one("served", one, &address);
}

CASE(two_with_reuseport_share_the_clients) {
    struct address address = free_address();
    int one = reusing(&address, SO_REUSEPORT), other = reusing(&address, SO_REUSEPORT);
    try_bind("one", one, &address);
    try_bind("other", other, &address);
    outcome("listen_one", listen(one, 64));
    outcome("listen_other", listen(other, 64));
    int served = 0;
    for (int i = 0; i < 40; i++) {
        int client = dial(&address);
        struct pollfd both[] = {{.fd = one, .events = POLLIN}, {.fd = other, .events = POLLIN}};
        MUST(poll(both, 2, 5000));
        int server = accept(both[0].revents ? one : other, NULL, NULL);
        served += server >= 0 && talks(server, client);
        close(server);
        close(client);
    }
    say("served", "%d", served);
    MUST(close(one));
    serve_one("other_alone", other, &address);
    MUST(close(other));
    whether("refuses", refuses_soon(&address));
}

CASE(a_port_of_another_process_is_refused) {
    struct address address = free_address();
    int listens[2], over[2];
    MUST(pipe(listens));
    MUST(pipe(over));
    pid_t child = make_child();
    char byte;
    if (child == 0) {
        /* By system calls, as a process that nobody answers for. */
        int other = MUST((int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
        MUST((int)syscall(SYS_bind, other, SA(&address), address.length));
        MUST((int)syscall(SYS_listen, other, 16));
        MUST((int)write(listens[1], "x", 1));
        close(over[1]);
        MUST((int)read(over[0], &byte, 1));
        done();
    }
    MUST((int)read(listens[0], &byte, 1));
    int one = socket_for(&address);
    try_bind("bind", one, &address);
    close(over[1]);
    await_child(child);
    try_bind("afterwards", one, &address);
    outcome("listen", listen(one, 16));
    serve_one("served", one, &address);
}

CASE(bind_refuses_what_makes_no_sense) {
    struct address address = free_address(), other = free_address();
    int bound = bound_at(&address);
    try_bind("bound_already", bound, &other);
    try_bind("bound_there_already", bound, &address);
    MUST(listen(bound, 16));
    try_bind("listening", bound, &other);
    int fresh = MUST(socket(AF_INET, SOCK_STREAM, 0));
    struct address six = ipv6(&in6addr_loopback, 0);
    try_bind("other_family", fresh, &six);
    outcome("short", bind(fresh, SA(&other), 8));
    outcome("negative", bind(fresh, SA(&other), (socklen_t)-1));
    struct address strange = ipv4(0xc0000201, port_of(&other));
    try_bind("not_ours", fresh, &strange);
    strange = ipv4(0xc0000201, 0);
    try_bind("not_ours_port_0", fresh, &strange);
    struct address path = local_path("nowhere");
    try_bind("path", fresh, &path);
    try_bind("closed", 900, &other);
    int ends[2];
    MUST(pipe(ends));
    try_bind("pipe", ends[0], &other);
    try_bind("right_at_last", fresh, &other);
    outcome("listen", listen(fresh, 16));
    serve_one("served", fresh, &other);
    int client = dial(&other);
    struct address again = free_address();
    try_bind("connected", client, &again);
}

CASE(an_unspecified_family_is_taken_for_all_hosts) {
    struct address any = ipv4(INADDR_ANY, 0);
    ((struct sockaddr *)&any.storage)->sa_family = AF_UNSPEC;
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
    try_bind("bind", listener, &any);
    MUST(listen(listener, 16));
    struct address name = name_of(listener);
    say("family", "%d", name.storage.ss_family);
    struct address near = with_port(loopback(), port_of(&name));
    serve_one("served", listener, &near);
}

CASE(listen_refuses_what_cannot) {
    int datagrams = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    outcome("udp", listen(datagrams, 1));
    outcome("closed", listen(900, 1));
    int ends[2];
    MUST(pipe(ends));
    outcome("pipe", listen(ends[0], 1));
    struct address address = free_address();
    int listener = listening_at(&address);
    int client = dial(&address);
    outcome("connected", listen(client, 1));
    int local = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    outcome("unbound_unix", listen(local, 1));
    (void)listener;
}

CASE(listen_again_changes_the_backlog) {
    struct address address = free_address();
    int listener = bound_at(&address);
    outcome("zero", listen(listener, 0));
    outcome("more", listen(listener, 100));
    outcome("negative", listen(listener, -1));
    outcome("most", listen(listener, INT32_MAX));
    serve_one("served", listener, &address);
}

CASE(a_bound_socket_connects_from_there) {
    struct address to = free_address(), from = free_address();
    int listener = listening_at(&to);
    int client = bound_at(&from);
    outcome("connect", connect(client, SA(&to), to.length));
    struct address peer = {.length = sizeof peer.storage};
    int server = MUST(accept(listener, SA(&peer), &peer.length));
    whether("from_there", is_same(&peer, &from));
    whether("talks", talks(server, client));
    struct address own = name_of(client), there = peer_of(client);
    whether("name", is_same(&own, &from));
    whether("peer", is_same(&there, &to));
    say("listens", "%d", option(client, SOL_SOCKET, SO_ACCEPTCONN));

    /* As a client does that wants one of several hosts. */
    struct address any = loopback();
    client = bound_at(&any);
    struct address chosen = name_of(client);
    outcome("connect_from_port_0", connect(client, SA(&to), to.length));
    peer.length = sizeof peer.storage;
    server = MUST(accept(listener, SA(&peer), &peer.length));
    whether("from_the_known_port", is_same(&peer, &chosen));
    whether("talks_too", talks(server, client));
    outcome("listen", listen(client, 1));
}

CASE(a_bound_socket_connects_without_waiting) {
    struct address to = free_address(), from = free_address();
    int listener = listening_at(&to);
    int client = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    int on = 1;
    MUST(setsockopt(client, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    MUST(bind(client, SA(&from), from.length));
    int events = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.fd = client};
    MUST(epoll_ctl(events, EPOLL_CTL_ADD, client, &event));
    outcome("connect", connect(client, SA(&to), to.length));
    int server = MUST(accept(listener, NULL, NULL));
    struct pollfd writable = {.fd = client, .events = POLLOUT};
    MUST(poll(&writable, 1, 5000));
    whether("an_event", epoll_wait(events, &event, 1, 5000) == 1 && event.events & EPOLLOUT);
    say("error", "%d", option(client, SOL_SOCKET, SO_ERROR));
    whether("flag", MUST(fcntl(client, F_GETFL)) & O_NONBLOCK);
    whether("closes_on_exec", MUST(fcntl(client, F_GETFD)) & FD_CLOEXEC);
    say("no_delay", "%d", option(client, IPPROTO_TCP, TCP_NODELAY));
    struct address peer = peer_of(server);
    whether("from_there", is_same(&peer, &from));
}

CASE(a_listener_does_not_connect) {
    struct address one = free_address(), other = free_address();
    int listener = listening_at(&one), target = listening_at(&other);
    outcome("connect", connect(listener, SA(&other), other.length));
    serve_one("still_served", listener, &one);
    (void)target;
}

CASE(a_listener_has_nothing_to_read) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int client = dial(&address);
    becomes_readable(listener);
    char byte = 0;
    outcome("read", (int)read(listener, &byte, 1));
    outcome("recv", (int)recv(listener, &byte, 1, MSG_DONTWAIT));
    outcome("write", (int)write(listener, &byte, 1));
    int server = outcome("accept", accept(listener, NULL, NULL));
    whether("talks", talks(server, client));
}

CASE(ipv6_has_its_own_addresses) {
    if (!has_ipv6())
        return say("ipv6", "none");
    struct address any = ipv6(&in6addr_loopback, 0);
    int listener = listening_at(&any);
    struct address name = name_of(listener);
    struct address expected = ipv6(&in6addr_loopback, port_of(&name));
    whether("name", is_same(&name, &expected));
    int client = dial(&name);
    struct address peer = {.length = sizeof peer.storage}, own = name_of(client);
    int server = MUST(accept(listener, SA(&peer), &peer.length));
    whether("peer", is_same(&peer, &own));
    whether("talks", talks(server, client));
    say("v6only", "%d", option(listener, IPPROTO_IPV6, IPV6_V6ONLY));
    say("domain", "%d", option(listener, SOL_SOCKET, SO_DOMAIN));
    unsigned char room[32];
    socklen_t length = 20;
    client = dial(&name);
    MUST(accept(listener, (struct sockaddr *)room, &length));
    say("length", "%u", length);
}

CASE(a_dual_stack_is_reached_both_ways) {
    if (!has_ipv6())
        return say("ipv6", "none");
    struct address any = ipv6(&in6addr_any, 0);
    int listener = socket_for(&any);
    set_option(listener, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    MUST(bind(listener, SA(&any), any.length));
    MUST(listen(listener, 16));
    struct address name = name_of(listener);
    struct address expected = ipv6(&in6addr_any, port_of(&name));
    whether("name", is_same(&name, &expected));
    struct address four = with_port(loopback(), port_of(&name));
    int client = dial(&four);
    struct address peer = {.length = sizeof peer.storage}, own = name_of(client);
    int server = MUST(accept(listener, SA(&peer), &peer.length));
    say("family_of_a_v4_client", "%d", peer.storage.ss_family == AF_INET6 ? 6 : 4);
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&peer.storage;
    char text[INET6_ADDRSTRLEN], expected_text[INET6_ADDRSTRLEN + 8], four_text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof text);
    inet_ntop(AF_INET, &((struct sockaddr_in *)&own.storage)->sin_addr, four_text, sizeof four_text);
    snprintf(expected_text, sizeof expected_text, "::ffff:%s", four_text);
    whether("mapped", strcmp(text, expected_text) == 0 && port_of(&peer) == port_of(&own));
    whether("talks", talks(server, client));
    struct address loop = ipv6(&in6addr_loopback, port_of(&name));
    serve_one("v6_client", listener, &loop);
}

CASE(v6only_leaves_ipv4_to_others) {
    if (!has_ipv6())
        return say("ipv6", "none");
    struct address any = ipv6(&in6addr_any, 0);
    int listener = socket_for(&any);
    set_option(listener, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    MUST(bind(listener, SA(&any), any.length));
    MUST(listen(listener, 16));
    struct address name = name_of(listener);
    struct address four = with_port(loopback(), port_of(&name));
    whether("v4_refused", refuses_soon(&four));
    int other = socket_for(&four);
    try_bind("v4_bind", other, &four);
    outcome("v4_listen", listen(other, 16));
    serve_one("v4_client", other, &four);
    struct address loop = ipv6(&in6addr_loopback, port_of(&name));
    serve_one("v6_client", listener, &loop);
    int off = 0;
    outcome("change_late", setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
    say("v6only", "%d", option(listener, IPPROTO_IPV6, IPV6_V6ONLY));
}

CASE(a_privileged_port_needs_rights) {
    enum { NOBODY = 65534 };
    pid_t child = make_child();
    if (child == 0) {
        if (geteuid() == 0) {
            MUST(setgid(NOBODY));
            MUST(setuid(NOBODY));
        }
        struct address address = with_port(loopback(), 1);
        int fresh = socket_for(&address);
        if (try_bind("bind", fresh, &address) < 0) {
            struct address other = free_address();
            try_bind("another", fresh, &other);
            outcome("listen", listen(fresh, 16));
            serve_one("served", fresh, &other);
        }
        done();
    }
    await_child(child);
}

CASE(other_kinds_of_sockets_are_left_alone) {
    struct address address = loopback();
    int datagrams = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind(datagrams, SA(&address), address.length));
    struct address name = name_of(datagrams);
    int sender = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST((int)sendto(sender, "hello", 5, 0, SA(&name), name.length));
    char text[8] = "";
    say("udp", "%d", MUST((int)recv(datagrams, text, sizeof text, 0)));

    struct address packets = abstract_name("packets");
    int listener = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    MUST(bind(listener, SA(&packets), packets.length));
    MUST(listen(listener, 4));
    int client = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    MUST(connect(client, SA(&packets), packets.length));
    int server = outcome("seqpacket", accept(listener, NULL, NULL));
    whether("talks", talks(server, client));
    whether("same_name", ({ struct address own = name_of(listener); is_same(&own, &packets); }));

    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    whether("pair_talks", talks(pair[0], pair[1]));
    int links = MUST(socket(AF_NETLINK, SOCK_RAW, 0));
    struct sockaddr netlink = {.sa_family = AF_NETLINK};
    char room[12] = {0};
    memcpy(room, &netlink.sa_family, sizeof netlink.sa_family);
    outcome("netlink", bind(links, (struct sockaddr *)room, sizeof room));
}
