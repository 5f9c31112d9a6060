/* The numbers of a listening socket: duplicates, fork, exec, another process, closing. */
#include "calls.h"

enum copy { DUP, DUP2, DUP3, DUPFD, DUPFD_CLOEXEC, COPIES };

static const char *const copy_names[COPIES] = {"dup", "dup2", "dup3", "dupfd", "dupfd_cloexec"};

static int copied(enum copy how, int descriptor) {
    switch (how) {
    case DUP:
        return MUST(dup(descriptor));
    case DUP2:
        return MUST(dup2(descriptor, 40));
    case DUP3:
        return MUST(dup3(descriptor, 41, O_CLOEXEC));
    case DUPFD:
        return MUST(fcntl(descriptor, F_DUPFD, 42));
    case DUPFD_CLOEXEC:
    default:
        return MUST(fcntl(descriptor, F_DUPFD_CLOEXEC, 43));
    }
}

static void both_accept(const char *how, int one, int other, const struct address *address) {
    char key[64];
    snprintf(key, sizeof key, "%s_original", how);
    serve_one(key, one, address);
    snprintf(key, sizeof key, "%s_copy", how);
    serve_one(key, other, address);
    whether("copy_closes_on_exec", MUST(fcntl(other, F_GETFD)) & FD_CLOEXEC);
    whether("copy_listens", option(other, SOL_SOCKET, SO_ACCEPTCONN));
    struct address name = name_of(other);
    whether("copy_has_the_name", is_same(&name, address));
}

CASE(a_copy_of_a_fresh_socket_listens_too) {
    for (enum copy how = 0; how < COPIES; how++) {
        struct address address = free_address();
        int one = socket_for(&address), other = copied(how, one);
        MUST(bind(one, SA(&address), address.length));
        MUST(listen(other, 16));
        both_accept(copy_names[how], one, other, &address);
        close(one);
        close(other);
    }
}

CASE(a_copy_of_a_bound_socket_listens_too) {
    for (enum copy how = 0; how < COPIES; how++) {
        struct address address = free_address();
        int one = bound_at(&address), other = copied(how, one);
        MUST(listen(one, 16));
        both_accept(copy_names[how], one, other, &address);
        close(one);
        close(other);
    }
}

CASE(a_copy_of_a_listening_socket_accepts) {
    for (enum copy how = 0; how < COPIES; how++) {
        struct address address = free_address();
        int one = listening_at(&address), other = copied(how, one);
        both_accept(copy_names[how], one, other, &address);
        close(one);
        close(other);
    }
}

CASE(copies_share_whether_they_wait) {
    struct address address = free_address();
    int one = listening_at(&address), other = MUST(dup(one));
    MUST(fcntl(one, F_SETFL, O_NONBLOCK));
    outcome("copy", accept(other, NULL, NULL));
    whether("flag_of_the_copy", MUST(fcntl(other, F_GETFL)) & O_NONBLOCK);
}

CASE(one_of_two_copies_is_closed) {
    struct address address = free_address();
    int one = listening_at(&address), other = MUST(dup(one));
    MUST(close(one));
    outcome("closed", accept(one, NULL, NULL));
    serve_one("other", other, &address);
    MUST(close(other));
    whether("refuses", refuses_soon(&address));
}

CASE(a_bound_copy_is_closed_before_listen) {
    struct address address = free_address();
    int one = bound_at(&address), other = MUST(dup(one));
    MUST(close(one));
    outcome("listen", listen(other, 16));
    serve_one("other", other, &address);
}

CASE(dup2_onto_itself_changes_nothing) {
    struct address address = free_address();
    int listener = listening_at(&address);
    whether("dup2", dup2(listener, listener) == listener);
    outcome("dup3", dup3(listener, listener, 0));
    serve_one("afterwards", listener, &address);
}

CASE(something_else_is_put_in_its_place) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int null = MUST(open("/dev/null", O_RDWR));
    whether("dup2", dup2(null, listener) == listener);
    outcome("accept", accept(listener, NULL, NULL));
    char byte;
    say("read", "%zd", read(listener, &byte, 1));
    whether("refuses", refuses_soon(&address));
}

CASE(a_listener_is_put_in_a_connections_place) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int client = dial(&address);
    int server = MUST(accept(listener, NULL, NULL));
    whether("dup2", dup2(listener, server) == server);
    char byte;
    say("read_of_the_client", "%zd", read(client, &byte, 1));
    MUST(close(listener));
    serve_one("in_its_place", server, &address);
}

CASE(a_copy_of_a_connection_keeps_it_open) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int client = dial(&address);
    int server = MUST(accept(listener, NULL, NULL));
    int other = MUST(dup(server));
    MUST(close(server));
    whether("talks", talks(other, client));
    MUST(close(other));
    char byte;
    say("read_of_the_client", "%zd", read(client, &byte, 1));
}

CASE(a_closed_number_is_used_again) {
    struct address address = free_address();
    int listener = listening_at(&address);
    MUST(close(listener));
    outcome("closed_twice", close(listener));
    int file = MUST(open("/dev/null", O_RDWR));
    whether("same_number", file == listener);
    outcome("accept", accept(file, NULL, NULL));
    MUST(close(file));
    struct address other = free_address();
    int again = listening_at(&other);
    whether("same_number_again", again == listener);
    serve_one("listener_again", again, &other);
    MUST(close(again));
    int client = socket_for(&other);
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    outcome("peer_of_a_fresh_socket", getpeername(client, (struct sockaddr *)&peer, &length));
    say("listens", "%d", option(client, SOL_SOCKET, SO_ACCEPTCONN));
}

CASE(a_closed_listener_is_bound_again) {
    struct address address = free_address();
    for (int i = 0; i < 20; i++) {
        int listener = socket_for(&address);
        set_option(listener, SOL_SOCKET, SO_REUSEADDR, 1);
        MUST(bind(listener, SA(&address), address.length));
        MUST(listen(listener, 16));
        serve_one("served", listener, &address);
        MUST(close(listener));
    }
    int before = open_descriptors();
    for (int i = 0; i < 50; i++) {
        struct address any = loopback();
        int listener = listening_at(&any);
        MUST(close(listener));
    }
    say("more_descriptors", "%d", open_descriptors() - before);
}

CASE(a_bound_socket_is_closed_and_bound_again) {
    struct address address = free_address();
    for (int i = 0; i < 20; i++)
        MUST(close(bound_at(&address)));
    int listener = listening_at(&address);
    serve_one("served", listener, &address);
}

CASE(a_child_accepts) {
    struct address address = free_address();
    int listener = listening_at(&address);
    pid_t child = make_child();
    if (child == 0) {
        serve_one("child", listener, &address);
        serve_one("child_again", listener, &address);
        done();
    }
    await_child(child);
    serve_one("parent", listener, &address);
    child = make_child();
    if (child == 0) {
        MUST(close(listener));
        done();
    }
    await_child(child);
    serve_one("parent_still", listener, &address);
}

CASE(children_go_on_without_their_parent) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int asked[2];
    MUST(pipe(asked));
    pid_t child = make_child();
    if (child == 0) {
        char byte;
        MUST((int)read(asked[0], &byte, 1));
        serve_one("child", listener, &address);
        done();
    }
    MUST(close(listener));
    MUST((int)write(asked[1], "x", 1));
    await_child(child);
    whether("refuses", refuses_soon(&address));
}

CASE(four_children_share_one_listener) {
    struct address address = free_address();
    int listener = listening_at(&address);
    pid_t children[4];
    for (int i = 0; i < 4; i++)
        if ((children[i] = make_child()) == 0) {
            for (int j = 0; j < 10; j++) {
                int server = MUST(accept(listener, NULL, NULL));
                char byte;
                MUST((int)read(server, &byte, 1));
                MUST((int)write(server, "!", 1));
                close(server);
            }
            done();
        }
    int served = 0;
    for (int i = 0; i < 40; i++) {
        int client = dial(&address);
        char byte = 0;
        served += write(client, "?", 1) == 1 && read(client, &byte, 1) == 1 && byte == '!';
        close(client);
    }
    say("served", "%d", served);
    for (int i = 0; i < 4; i++)
        await_child(children[i]);
}

CASE(a_child_listens) {
    pid_t child = make_child();
    if (child == 0) {
        struct address address = free_address();
        int listener = listening_at(&address);
        serve_one("child", listener, &address);
        done();
    }
    await_child(child);
    struct address address = free_address();
    int listener = listening_at(&address);
    serve_one("parent", listener, &address);
}

CASE(a_child_listens_on_what_was_bound_before_it) {
    struct address address = free_address();
    int bound = bound_at(&address);
    pid_t child = make_child();
    if (child == 0) {
        outcome("listen", listen(bound, 16));
        serve_one("child", bound, &address);
        done();
    }
    await_child(child);
    serve_one("parent", bound, &address);
}

CASE(two_children_listen_at_a_time) {
    pid_t children[2];
    for (int i = 0; i < 2; i++)
        if ((children[i] = make_child()) == 0) {
            for (int j = 0; j < 20; j++) {
                struct address any = loopback();
                int listener = listening_at(&any);
                struct address name = name_of(listener);
                int client = dial(&name);
                int server = MUST(accept(listener, NULL, NULL));
                if (!talks(server, client))
                    say("failed", "does not talk");
                close(server);
                close(client);
                close(listener);
            }
            done();
        }
    await_child(children[0]);
    await_child(children[1]);
    struct address address = free_address();
    int listener = listening_at(&address);
    serve_one("parent", listener, &address);
}

THEN(serve) {
    struct address address = {.length = sizeof address.storage};
    if (outcome("name_after_exec", getsockname(given, SA(&address), &address.length)) < 0)
        return;
    say("family", "%d", address.storage.ss_family);
    say("listens", "%d", option(given, SOL_SOCKET, SO_ACCEPTCONN));
    say("type", "%d", option(given, SOL_SOCKET, SO_TYPE));
    say("domain", "%d", option(given, SOL_SOCKET, SO_DOMAIN));
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    outcome("peer", getpeername(given, (struct sockaddr *)&peer, &length));
    outcome("listen_again", listen(given, 16));
    serve_one("served_after_exec", given, &address);
    int copy = MUST(dup(given));
    MUST(close(given));
    serve_one("served_by_a_copy", copy, &address);
    MUST(fcntl(copy, F_SETFL, O_NONBLOCK));
    outcome("nothing", accept(copy, NULL, NULL));
    int client = dial(&address);
    becomes_readable(copy);
    int server = outcome("nonblocking", accept(copy, NULL, NULL));
    whether("flag", MUST(fcntl(server, F_GETFL)) & O_NONBLOCK);
    whether("talks", talks(server, client));
    struct address own = name_of(server);
    whether("name", is_same(&own, &address));
}

CASE(it_is_passed_through_exec_by_its_number) {
    struct address address = free_address();
    int listener = listening_at(&address);
    pid_t child = make_child();
    if (child == 0)
        become("serve", listener);
    await_child(child);
    serve_one("parent", listener, &address);
}

CASE(a_program_becomes_another_one_in_place) {
    struct address address = free_address();
    become("serve", listening_at(&address));
}

CASE(exec_closes_what_it_should) {
    struct address address = free_address();
    int listener = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MUST(bind(listener, SA(&address), address.length));
    MUST(listen(listener, 16));
    whether("closes_on_exec", MUST(fcntl(listener, F_GETFD)) & FD_CLOEXEC);
    pid_t child = make_child();
    if (child == 0)
        become("serve", listener);
    await_child(child);
    MUST(fcntl(listener, F_SETFD, 0));
    whether("closes_on_exec", MUST(fcntl(listener, F_GETFD)) & FD_CLOEXEC);
    child = make_child();
    if (child == 0)
        become("serve", listener);
    await_child(child);
}

THEN(listen_anew) {
    (void)given;
    struct address address = free_address();
    int listener = listening_at(&address);
    serve_one("served", listener, &address);
}

CASE(who_was_made_with_exec_listens) {
    pid_t child = make_child();
    if (child == 0)
        become("listen_anew", 0);
    await_child(child);
    become("listen_anew", 0);
}

static void send_descriptor(int way, int descriptor) {
    char byte = 'x';
    struct iovec part = {&byte, 1};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
    MUST((int)sendmsg(way, &message, 0));
}

static int receive_descriptor(int way) {
    char byte;
    struct iovec part = {&byte, 1};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    MUST((int)recvmsg(way, &message, 0));
    int descriptor;
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptor);
    return descriptor;
}

CASE(it_is_sent_to_another_process) {
    struct address address = free_address();
    int way[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, way));
    pid_t child = make_child();
    if (child == 0) {
        int listener = receive_descriptor(way[1]);
        struct address name = name_of(listener);
        whether("name", is_same(&name, &address));
        say("listens", "%d", option(listener, SOL_SOCKET, SO_ACCEPTCONN));
        serve_one("child", listener, &address);
        done();
    }
    int listener = listening_at(&address);
    send_descriptor(way[0], listener);
    await_child(child);
    serve_one("parent", listener, &address);
}

CASE(what_is_above_2_is_closed_first) {
    closefrom(3);
    struct address one = free_address();
    int listener = listening_at(&one);
    serve_one("after_closefrom", listener, &one);
    MUST(close_range(3, ~0U, 0));
    outcome("closed", accept(listener, NULL, NULL));
    whether("refuses", refuses_soon(&one));
    for (int number = 3; number < 1024; number++)
        close(number);
    struct address other = free_address();
    listener = listening_at(&other);
    serve_one("after_close_range", listener, &other);
    MUST(close_range(listener, listener, CLOSE_RANGE_CLOEXEC));
    whether("closes_on_exec", MUST(fcntl(listener, F_GETFD)) & FD_CLOEXEC);
    serve_one("still", listener, &other);
    MUST(close_range(listener, listener, 0));
    outcome("closed_by_itself", accept(listener, NULL, NULL));
    whether("refuses_too", refuses_soon(&other));
}

CASE(a_daemon_of_two_forks_listens) {
    int way[2];
    MUST(pipe(way));
    pid_t child = make_child();
    if (child == 0) {
        MUST(setsid());
        /* Not by make_child: it would leave with its parent. */
        if (fork() > 0)
            done();
        alarm(15);
        dup2(way[1], 3);
        closefrom(4);
        struct address address = free_address();
        int listener = listening_at(&address);
        serve_one("daemon", listener, &address);
        done();
    }
    await_child(child);
    close(way[1]);
    char byte;
    say("end_of_the_daemon", "%zd", read(way[0], &byte, 1));
}

CASE(two_listeners_are_told_apart) {
    struct address one = free_address(), other = free_address();
    int first = listening_at(&one), second = listening_at(&other);
    int client = dial(&other);
    whether("second_ready", becomes_readable(second));
    whether("first_ready", is_readable(first));
    int server = MUST(accept(second, NULL, NULL));
    whether("talks", talks(server, client));
    serve_one("first", first, &one);
    serve_one("second", second, &other);
    MUST(close(first));
    whether("first_refuses", refuses_soon(&one));
    serve_one("second_still", second, &other);
}

CASE(many_listen_at_a_time) {
    int listeners[30];
    struct address names[30];
    for (int i = 0; i < 30; i++) {
        struct address any = loopback();
        listeners[i] = listening_at(&any);
        names[i] = name_of(listeners[i]);
    }
    int served = 0;
    for (int i = 0; i < 30; i++) {
        int client = dial(&names[i]);
        int server = accept(listeners[i], NULL, NULL);
        served += server >= 0 && talks(server, client);
    }
    say("served", "%d", served);
}
