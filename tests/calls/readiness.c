/* poll, select and epoll: when a listening socket is ready, and that it is forgotten when closed. */
#include "calls.h"

static void say_events(const char *key, uint32_t events) {
    static const struct { uint32_t event; const char *name; } known[] = {
        {EPOLLIN, "in"}, {EPOLLOUT, "out"}, {EPOLLERR, "err"}, {EPOLLHUP, "hup"}, {EPOLLRDHUP, "rdhup"}, {EPOLLPRI, "pri"}};
    char text[64] = "";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (events & known[i].event) {
            strcat(text, text[0] ? "," : "");
            strcat(text, known[i].name);
        }
    say(key, "%s", text);
}

static void polled(const char *key, int descriptor, short events, int timeout) {
    struct pollfd ready = {.fd = descriptor, .events = events};
    MUST(poll(&ready, 1, timeout));
    /* The low events have the same numbers in epoll. */
    say_events(key, (uint32_t)ready.revents);
}

static struct epoll_event registered(int epoll, int descriptor, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = descriptor};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event));
    return event;
}

static void waited(const char *key, int epoll, int timeout) {
    struct epoll_event event = {0};
    int count = MUST(epoll_wait(epoll, &event, 1, timeout));
    say_events(key, count ? event.events : 0);
}

enum { NOW = 0, SOON = 5000 };

static int nonblocking_at(const struct address *address) {
    int listener = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(bind(listener, SA(address), address->length));
    MUST(listen(listener, 64));
    return listener;
}

CASE(poll_tells_of_a_client) {
    struct address address = free_address();
    int listener = listening_at(&address);
    polled("nobody", listener, POLLIN, NOW);
    dial(&address);
    polled("one", listener, POLLIN, SOON);
    polled("one_still", listener, POLLIN, NOW);
    MUST(accept(listener, NULL, NULL));
    polled("accepted", listener, POLLIN, NOW);
    dial(&address);
    dial(&address);
    polled("two", listener, POLLIN, SOON);
    MUST(accept(listener, NULL, NULL));
    polled("one_of_two", listener, POLLIN, SOON);
    MUST(accept(listener, NULL, NULL));
    polled("none_of_two", listener, POLLIN, NOW);
}

CASE(a_listener_is_never_writable) {
    struct address address = free_address();
    int listener = listening_at(&address);
    polled("poll", listener, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, NOW);
    int epoll = MUST(epoll_create1(0));
    registered(epoll, listener, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI);
    waited("epoll", epoll, NOW);
    fd_set readable, writable, strange;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_ZERO(&strange);
    FD_SET(listener, &readable);
    FD_SET(listener, &writable);
    FD_SET(listener, &strange);
    struct timeval at_once = {0};
    say("select", "%d", MUST(select(listener + 1, &readable, &writable, &strange, &at_once)));
    dial(&address);
    becomes_readable(listener);
    polled("poll_with_client", listener, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, SOON);
    waited("epoll_with_client", epoll, SOON);
}

CASE(what_does_not_listen_yet_hangs_up) {
    struct address address = free_address();
    int fresh = socket_for(&address);
    polled("fresh", fresh, POLLIN | POLLOUT, NOW);
    MUST(bind(fresh, SA(&address), address.length));
    polled("bound", fresh, POLLIN | POLLOUT, NOW);
}

CASE(select_tells_of_a_client) {
    struct address address = free_address();
    int listener = listening_at(&address);
    for (int i = 0; i < 2; i++) {
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(listener, &readable);
        struct timeval wait = {i * 5, 0};
        say("ready", "%d", MUST(select(listener + 1, &readable, NULL, NULL, &wait)));
        whether("is_set", FD_ISSET(listener, &readable));
        dial(&address);
    }
    outcome("accept", accept(listener, NULL, NULL));
}

CASE(epoll_tells_again_and_again) {
    struct address address = free_address();
    int listener = nonblocking_at(&address), epoll = MUST(epoll_create1(EPOLL_CLOEXEC));
    registered(epoll, listener, EPOLLIN);
    waited("nobody", epoll, NOW);
    dial(&address);
    waited("one", epoll, SOON);
    waited("one_still", epoll, NOW);
    MUST(accept(listener, NULL, NULL));
    waited("accepted", epoll, NOW);
    outcome("nothing", accept(listener, NULL, NULL));
    waited("nothing_to_say", epoll, NOW);
}

CASE(epoll_tells_once_at_an_edge) {
    struct address address = free_address();
    int listener = nonblocking_at(&address), epoll = MUST(epoll_create(1));
    registered(epoll, listener, EPOLLIN | EPOLLET);
    waited("nobody", epoll, NOW);
    dial(&address);
    waited("one", epoll, SOON);
    waited("not_again", epoll, NOW);
    dial(&address);
    waited("another", epoll, SOON);
    waited("not_again_either", epoll, NOW);
    outcome("first", accept(listener, NULL, NULL));
    becomes_readable(listener);
    outcome("second", accept(listener, NULL, NULL));
    outcome("third", accept(listener, NULL, NULL));
    waited("drained", epoll, NOW);
    dial(&address);
    waited("after_that", epoll, SOON);
}

CASE(epoll_tells_one_shot) {
    struct address address = free_address();
    int listener = nonblocking_at(&address), epoll = MUST(epoll_create1(0));
    struct epoll_event event = registered(epoll, listener, EPOLLIN | EPOLLONESHOT);
    dial(&address);
    waited("one", epoll, SOON);
    waited("disarmed", epoll, NOW);
    MUST(epoll_ctl(epoll, EPOLL_CTL_MOD, listener, &event));
    waited("armed", epoll, SOON);
}

CASE(epoll_wakes_one_of_several) {
    struct address address = free_address();
    int listener = nonblocking_at(&address);
    int one = MUST(epoll_create1(0)), other = MUST(epoll_create1(0));
    registered(one, listener, EPOLLIN | EPOLLEXCLUSIVE);
    registered(other, listener, EPOLLIN | EPOLLEXCLUSIVE);
    struct epoll_event event = {.events = EPOLLIN};
    outcome("mod", epoll_ctl(one, EPOLL_CTL_MOD, listener, &event));
    dial(&address);
    waited("one", one, SOON);
    MUST(accept(listener, NULL, NULL));
    waited("one_afterwards", one, NOW);
    waited("other_afterwards", other, NOW);
    outcome("del", epoll_ctl(one, EPOLL_CTL_DEL, listener, NULL));
    dial(&address);
    waited("other", other, SOON);
}

CASE(epoll_keeps_its_list) {
    struct address address = free_address();
    int listener = nonblocking_at(&address), epoll = MUST(epoll_create1(0));
    struct epoll_event event = registered(epoll, listener, EPOLLIN);
    outcome("add_twice", epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event));
    event.events = 0;
    outcome("mod", epoll_ctl(epoll, EPOLL_CTL_MOD, listener, &event));
    dial(&address);
    becomes_readable(listener);
    waited("nothing_wanted", epoll, NOW);
    event.events = EPOLLIN;
    outcome("mod_back", epoll_ctl(epoll, EPOLL_CTL_MOD, listener, &event));
    waited("wanted", epoll, SOON);
    outcome("del", epoll_ctl(epoll, EPOLL_CTL_DEL, listener, NULL));
    outcome("del_twice", epoll_ctl(epoll, EPOLL_CTL_DEL, listener, NULL));
    waited("deleted", epoll, NOW);
    outcome("add_again", epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event));
    waited("added", epoll, SOON);
}

CASE(epoll_knows_it_from_before_listen) {
    struct address address = free_address();
    int listener = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    int epoll = MUST(epoll_create1(0));
    registered(epoll, listener, EPOLLIN);
    waited("fresh", epoll, NOW);
    MUST(bind(listener, SA(&address), address.length));
    waited("bound", epoll, NOW);
    MUST(listen(listener, 16));
    waited("listening", epoll, NOW);
    dial(&address);
    waited("one", epoll, SOON);
    outcome("accept", accept(listener, NULL, NULL));
    waited("accepted", epoll, NOW);
    outcome("del", epoll_ctl(epoll, EPOLL_CTL_DEL, listener, NULL));
}

CASE(epoll_forgets_what_is_closed) {
    struct address address = free_address();
    int listener = nonblocking_at(&address), epoll = MUST(epoll_create1(0));
    registered(epoll, listener, EPOLLIN);
    dial(&address);
    waited("one", epoll, SOON);
    MUST(close(listener));
    waited("closed", epoll, NOW);
    whether("refuses", refuses_soon(&address));
    waited("closed_still", epoll, NOW);
    struct address other = free_address();
    int again = nonblocking_at(&other);
    whether("same_number", again == listener);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = again};
    outcome("add", epoll_ctl(epoll, EPOLL_CTL_ADD, again, &event));
    waited("nobody", epoll, NOW);
    dial(&other);
    waited("one_again", epoll, SOON);
    MUST(accept(again, NULL, NULL));
    int null = MUST(open("/dev/null", O_RDONLY));
    MUST(dup2(null, again));
    waited("replaced", epoll, NOW);
    whether("refuses_too", refuses_soon(&other));
    waited("replaced_still", epoll, NOW);
}

CASE(epoll_forgets_the_last_copy_only) {
    struct address address = free_address();
    int listener = nonblocking_at(&address), epoll = MUST(epoll_create1(0));
    registered(epoll, listener, EPOLLIN);
    int copy = MUST(dup(listener));
    dial(&address);
    waited("one", epoll, SOON);
    MUST(close(copy));
    waited("copy_closed", epoll, NOW);
    copy = MUST(dup(listener));
    MUST(close(listener));
    waited("first_closed", epoll, NOW);
    MUST(accept(copy, NULL, NULL));
    waited("accepted", epoll, NOW);
    MUST(close(copy));
    waited("both_closed", epoll, NOW);
}

CASE(epoll_of_a_connection_is_its_own) {
    struct address address = free_address();
    int listener = nonblocking_at(&address), epoll = MUST(epoll_create1(0));
    int client = dial(&address);
    becomes_readable(listener);
    int server = MUST(accept4(listener, NULL, NULL, SOCK_NONBLOCK));
    registered(epoll, server, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP);
    waited("writable", epoll, SOON);
    waited("not_again", epoll, NOW);
    MUST((int)write(client, "?", 1));
    waited("readable", epoll, SOON);
    MUST(close(client));
    waited("left", epoll, SOON);
    MUST(close(server));
    waited("closed", epoll, NOW);
}

CASE(a_child_inherits_what_epoll_knows) {
    struct address address = free_address();
    int listener = nonblocking_at(&address), epoll = MUST(epoll_create1(0));
    registered(epoll, listener, EPOLLIN);
    dial(&address);
    pid_t child = make_child();
    if (child == 0) {
        waited("child", epoll, SOON);
        outcome("child_accepts", accept(listener, NULL, NULL));
        waited("child_afterwards", epoll, NOW);
        /* The parent's is open still. */
        MUST(close(listener));
        done();
    }
    await_child(child);
    waited("nobody", epoll, NOW);
    dial(&address);
    waited("parent", epoll, SOON);
    outcome("parent_accepts", accept(listener, NULL, NULL));
}

static volatile sig_atomic_t signals;

static void count(int signal) {
    (void)signal;
    signals++;
}

CASE(a_signal_tells_of_a_client) {
    struct address address = free_address();
    int listener = listening_at(&address);
    signal(SIGIO, count);
    MUST(fcntl(listener, F_SETOWN, getpid()));
    MUST(fcntl(listener, F_SETFL, MUST(fcntl(listener, F_GETFL)) | O_ASYNC | O_NONBLOCK));
    dial(&address);
    for (int i = 0; i < 2000 && !signals; i++)
        poll(NULL, 0, 1);
    whether("signalled", signals > 0);
    becomes_readable(listener);
    int server = outcome("accept", accept(listener, NULL, NULL));
    whether("accepted_signals", MUST(fcntl(server, F_GETFL)) & O_ASYNC);
}

CASE(a_loop_that_ends_does_not_spin) {
    struct address address = free_address();
    int listener = nonblocking_at(&address), epoll = MUST(epoll_create1(0));
    registered(epoll, listener, EPOLLIN);
    for (int i = 0; i < 10; i++) {
        int client = dial(&address);
        waited("client", epoll, SOON);
        int server = MUST(accept(listener, NULL, NULL));
        whether("talks", talks(server, client));
        close(client);
        close(server);
    }
    MUST(close(listener));
    whether("refuses", refuses_soon(&address));
    struct rusage before, after;
    MUST(getrusage(RUSAGE_SELF, &before));
    waited("nothing", epoll, 200);
    MUST(getrusage(RUSAGE_SELF, &after));
    long used = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000
        + (after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1000;
    whether("idle", used < 100);
}
