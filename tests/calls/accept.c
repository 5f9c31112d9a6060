/* accept and accept4: waiting and not waiting, interruptions, addresses, limits. */
#include "calls.h"

static void say_flags(const char *key, int descriptor) {
    int status = MUST(fcntl(descriptor, F_GETFL));
    int flags = MUST(fcntl(descriptor, F_GETFD));
    say(key, "%s,%s", status & O_NONBLOCK ? "nonblock" : "block", flags & FD_CLOEXEC ? "cloexec" : "keep");
}

static int nonblocking(int listener) {
    MUST(fcntl(listener, F_SETFL, MUST(fcntl(listener, F_GETFL)) | O_NONBLOCK));
    return listener;
}

CASE(accepts_what_is_connected) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int client = dial(&address);
    struct address peer = {.length = sizeof peer.storage};
    int server = outcome("accept", accept(listener, SA(&peer), &peer.length));
    struct address own = name_of(client), local = name_of(server), remote = peer_of(server);
    whether("accept_says_who", is_same(&peer, &own));
    whether("getpeername_says_who", is_same(&remote, &own));
    whether("getsockname_says_where", is_same(&local, &address));
    whether("talks", talks(server, client));
    say_flags("flags", server);
    MUST(close(client));
    char byte;
    say("read_at_the_end", "%zd", read(server, &byte, 1));
}

static int ready_pipe[2], result;
static volatile bool has_ended;

static void *accept_once(void *listener) {
    pid_t id = thread_id();
    MUST((int)write(ready_pipe[1], &id, sizeof id));
    int server = accept((int)(intptr_t)listener, NULL, NULL);
    result = server >= 0 ? server : -errno;
    has_ended = true;
    return NULL;
}

/* What accept gave to the thread. */
static int result_of(const char *key, pthread_t thread) {
    pthread_join(thread, NULL);
    errno = result < 0 ? -result : 0;
    return outcome(key, result);
}

/* A thread that waits in accept, and its number. */
static pthread_t waiting_thread(int listener, pid_t *id) {
    pthread_t thread;
    has_ended = false;
    MUST(pipe2(ready_pipe, O_CLOEXEC));
    MUST(-pthread_create(&thread, NULL, accept_once, (void *)(intptr_t)listener));
    MUST((int)read(ready_pipe[0], id, sizeof *id));
    await_blocked(*id);
    return thread;
}

CASE(accept_waits_for_a_client) {
    struct address address = free_address();
    int listener = listening_at(&address);
    pid_t id;
    pthread_t thread = waiting_thread(listener, &id);
    int client = dial(&address);
    int server = result_of("accept", thread);
    whether("talks", talks(server, client));
}

CASE(accept_does_not_wait_where_it_must_not) {
    struct address address = free_address();
    int listener = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    MUST(bind(listener, SA(&address), address.length));
    MUST(listen(listener, 16));
    say_flags("listener", listener);
    outcome("nothing", accept(listener, NULL, NULL));
    int client = dial(&address);
    whether("ready", becomes_readable(listener));
    int server = outcome("one", accept(listener, NULL, NULL));
    say_flags("accepted", server);
    whether("talks", talks(server, client));
    outcome("nothing_more", accept(listener, NULL, NULL));
}

CASE(waiting_is_changed_after_listen) {
    struct address address = free_address();
    int listener = listening_at(&address);
    nonblocking(listener);
    outcome("fcntl", accept(listener, NULL, NULL));
    int off = 0, on = 1;
    MUST(ioctl(listener, FIONBIO, &off));
    say_flags("blocking_again", listener);
    MUST(ioctl(listener, FIONBIO, &on));
    say_flags("ioctl_flags", listener);
    outcome("ioctl", accept(listener, NULL, NULL));
    int client = dial(&address);
    becomes_readable(listener);
    int server = outcome("one", accept(listener, NULL, NULL));
    say_flags("accepted", server);
    whether("talks", talks(server, client));
}

static void every_accept4(const char *kind, int listener, const struct address *address) {
    static const struct { const char *name; int flags; } asked[] = {
        {"none", 0}, {"cloexec", SOCK_CLOEXEC}, {"nonblock", SOCK_NONBLOCK}, {"both", SOCK_CLOEXEC | SOCK_NONBLOCK}};
    for (int i = 0; i < 4; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s_%s", kind, asked[i].name);
        int client = dial(address);
        becomes_readable(listener);
        int server = MUST(accept4(listener, NULL, NULL, asked[i].flags));
        say_flags(key, server);
        close(server);
        close(client);
    }
    outcome("unknown_flag", accept4(listener, NULL, NULL, SOCK_STREAM));
}

CASE(accept4_flags_are_those_asked_for) {
    struct address one = free_address();
    every_accept4("blocking", listening_at(&one), &one);
    struct address other = free_address();
    every_accept4("nonblocking", nonblocking(listening_at(&other)), &other);
    struct address early = free_address();
    int listener = nonblocking(bound_at(&early));
    MUST(listen(listener, 16));
    every_accept4("early", listener, &early);
}

static void set_timeout(int socket, long milliseconds) {
    struct timeval timeout = {milliseconds / 1000, milliseconds % 1000 * 1000};
    MUST(setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
}

static long timeout_of(int socket) {
    struct timeval timeout;
    socklen_t length = sizeof timeout;
    MUST(getsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, &length));
    return timeout.tv_sec * 1000 + timeout.tv_usec / 1000;
}

static long now_in_milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void times_out(const char *key, int listener) {
    long before = now_in_milliseconds();
    outcome(key, accept(listener, NULL, NULL));
    whether("in_time", now_in_milliseconds() - before >= 75);
    say("timeout", "%ld", timeout_of(listener));
}

CASE(accept_times_out) {
    struct address address = free_address();
    int listener = bound_at(&address);
    set_timeout(listener, 80);
    MUST(listen(listener, 16));
    times_out("set_before_listen", listener);
    int client = dial(&address);
    int server = outcome("one", accept(listener, NULL, NULL));
    whether("talks", talks(server, client));
    say("timeout_of_the_accepted", "%ld", timeout_of(server));

    struct address other = free_address();
    listener = listening_at(&other);
    set_timeout(listener, 100);
    times_out("set_after_listen", listener);
    set_timeout(listener, 0);
    pid_t id;
    pthread_t thread = waiting_thread(listener, &id);
    client = dial(&other);
    server = result_of("without_timeout", thread);
    say("timeout_of_the_last", "%ld", timeout_of(server));
}

static volatile sig_atomic_t handled;

static void note(int signal) {
    (void)signal;
    handled++;
}

static void handle(int signal, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    MUST(sigaction(signal, &action, NULL));
}

struct nudge {
    pthread_t waiting;
    pid_t id;
    const struct address *address;
    int client;
};

/* Waits until the thread waits, signals it, and connects if there is somewhere to connect to. */
static void *send_nudge(void *argument) {
    struct nudge *nudge = argument;
    await_blocked(nudge->id);
    pthread_kill(nudge->waiting, SIGUSR1);
    if (nudge->address) {
        while (!handled)
            poll(NULL, 0, 1);
        await_blocked(nudge->id);
        nudge->client = dial(nudge->address);
    }
    return NULL;
}

static void interrupted(const char *key, int listener, const struct address *address) {
    handled = 0;
    struct nudge nudge = {pthread_self(), thread_id(), address, -1};
    pthread_t nudging;
    MUST(-pthread_create(&nudging, NULL, send_nudge, &nudge));
    int server = outcome(key, accept(listener, NULL, NULL));
    pthread_join(nudging, NULL);
    say("handled", "%d", (int)handled);
    if (server >= 0)
        whether("talks", talks(server, nudge.client));
}

CASE(a_signal_interrupts_accept) {
    struct address address = free_address();
    int listener = listening_at(&address);
    handle(SIGUSR1, note, 0);
    interrupted("accept", listener, NULL);
    serve_one("afterwards", listener, &address);
}

CASE(accept_is_restarted_after_a_signal) {
    struct address address = free_address();
    int listener = listening_at(&address);
    handle(SIGUSR1, note, SA_RESTART);
    interrupted("accept", listener, &address);
    /* With a timeout it is not restarted, signal(7). */
    set_timeout(listener, 10000);
    interrupted("with_timeout", listener, NULL);
}

static int handlers_listener, handlers_result, handlers_errno;

static void accept_in_handler(int signal) {
    (void)signal;
    int saved = errno;
    handlers_result = accept(handlers_listener, NULL, NULL);
    handlers_errno = errno;
    errno = saved;
    handled++;
}

CASE(a_signal_handler_accepts) {
    struct address address = free_address();
    handlers_listener = nonblocking(listening_at(&address));
    handle(SIGUSR1, accept_in_handler, SA_RESTART);
    handled = 0;
    raise(SIGUSR1);
    errno = handlers_errno;
    outcome("nothing", handlers_result);
    int client = dial(&address);
    becomes_readable(handlers_listener);
    raise(SIGUSR1);
    errno = handlers_errno;
    outcome("one", handlers_result);
    whether("talks", talks(handlers_result, client));

    /* In the midst of another accept of the same thread. */
    struct address other = free_address();
    int second = listening_at(&other);
    client = dial(&address);
    becomes_readable(handlers_listener);
    handled = 0;
    struct nudge nudge = {pthread_self(), thread_id(), &other, -1};
    pthread_t nudging;
    MUST(-pthread_create(&nudging, NULL, send_nudge, &nudge));
    int server = outcome("outer", accept(second, NULL, NULL));
    pthread_join(nudging, NULL);
    errno = handlers_errno;
    outcome("inner", handlers_result);
    whether("outer_talks", talks(server, nudge.client));
    whether("inner_talks", talks(handlers_result, client));
}

CASE(accept_of_what_does_not_listen) {
    struct address address = free_address();
    int bound = bound_at(&address);
    outcome("bound", accept(bound, NULL, NULL));
    socklen_t one = 1, negative = (socklen_t)-1;
    outcome("bound_short", accept(bound, (struct sockaddr *)3, &one));
    outcome("bound_negative", accept(bound, (struct sockaddr *)3, &negative));
    int fresh = MUST(socket(AF_INET, SOCK_STREAM, 0));
    outcome("fresh", accept(fresh, NULL, NULL));
    int datagrams = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    outcome("udp", accept(datagrams, NULL, NULL));
    int ends[2];
    MUST(pipe(ends));
    outcome("pipe", accept(ends[0], NULL, NULL));
    outcome("nothing", accept(-1, NULL, NULL));
    outcome("closed", accept(900, NULL, NULL));
    struct address elsewhere = free_address();
    int listener = listening_at(&elsewhere);
    int client = dial(&elsewhere);
    outcome("client", accept(client, NULL, NULL));
    int server = MUST(accept(listener, NULL, NULL));
    outcome("accepted", accept(server, NULL, NULL));
}

CASE(a_peers_address_is_cut_to_its_room) {
    struct address address = free_address();
    int listener = listening_at(&address);
    static const socklen_t rooms[] = {0, 1, 2, 7, 15, 16, 17, 128};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        int client = dial(&address);
        struct address own = name_of(client);
        unsigned char room[129];
        memset(room, 0xee, sizeof room);
        socklen_t length = rooms[i];
        int server = MUST(accept(listener, (struct sockaddr *)room, &length));
        socklen_t written = rooms[i] < own.length ? rooms[i] : own.length;
        say("room", "%u", rooms[i]);
        say("length", "%u", length);
        whether("begins_as_the_address", memcmp(room, &own.storage, written) == 0);
        whether("nothing_behind", room[written] == 0xee);
        close(server);
        close(client);
    }
}

CASE(a_negative_room_is_an_error) {
    struct address address = free_address();
    int listener = nonblocking(listening_at(&address));
    int client = dial(&address);
    becomes_readable(listener);
    struct sockaddr_in peer;
    socklen_t negative = (socklen_t)-1;
    outcome("accept", accept(listener, (struct sockaddr *)&peer, &negative));
    (void)client;
}

CASE(many_are_accepted_without_a_leak) {
    struct address address = free_address();
    int listener = listening_at(&address);
    serve_one("first", listener, &address);
    int before = open_descriptors();
    int served = 0;
    for (int i = 0; i < 500; i++) {
        int client = dial(&address);
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        int server = accept(listener, (struct sockaddr *)&peer, &length);
        served += server >= 0 && talks(server, client);
        close(server);
        close(client);
    }
    say("served", "%d", served);
    say("more_descriptors", "%d", open_descriptors() - before);
}

CASE(clients_are_accepted_in_their_order) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int clients[10];
    for (int i = 0; i < 10; i++)
        clients[i] = dial(&address);
    bool in_order = true;
    for (int i = 0; i < 10; i++) {
        struct address peer = {.length = sizeof peer.storage}, own = name_of(clients[i]);
        MUST(accept(listener, SA(&peer), &peer.length));
        in_order &= is_same(&peer, &own);
    }
    whether("in_order", in_order);
}

CASE(the_lowest_free_number_is_used) {
    struct address address = free_address();
    int fresh = MUST(socket(AF_INET, SOCK_STREAM, 0));
    int next = MUST(dup(1));
    MUST(bind(fresh, SA(&address), address.length));
    MUST(listen(fresh, 16));
    int after = MUST(dup(1));
    whether("nothing_between", after == next + 1);
    int client = dial(&address);
    MUST(close(next));
    int server = MUST(accept(fresh, NULL, NULL));
    whether("accepted_is_lowest", server == next);
    whether("talks", talks(server, client));
    whether("a_select_can_have_them", server < FD_SETSIZE && client < FD_SETSIZE);
}

static void limit_descriptors(int most) {
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = most;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
}

static int fill_descriptors(void) {
    int last = -1, filler;
    while ((filler = dup(1)) >= 0)
        last = filler;
    return last;
}

CASE(at_the_limit_of_descriptors_a_client_waits) {
    struct address address = free_address();
    int listener = nonblocking(listening_at(&address));
    int first = dial(&address), second = socket_for(&address);
    becomes_readable(listener);
    limit_descriptors(48);
    int filler = fill_descriptors();
    outcome("full", accept(listener, NULL, NULL));
    outcome("full_still", accept(listener, NULL, NULL));
    whether("ready", is_readable(listener));
    MUST(close(filler));
    int server = outcome("one_free", accept(listener, NULL, NULL));
    whether("talks", talks(server, first));
    MUST(connect(second, SA(&address), address.length));
    whether("ready_again", becomes_readable(listener));
    outcome("full_again", accept(listener, NULL, NULL));
    MUST(close(server));
    server = outcome("another", accept(listener, NULL, NULL));
    whether("talks_too", talks(server, second));
}

CASE(a_low_limit_of_descriptors_is_enough) {
    limit_descriptors(16);
    struct address address = free_address();
    int listener = listening_at(&address);
    serve_one("one", listener, &address);
    serve_one("another", listener, &address);
}

CASE(a_client_that_has_left_is_accepted) {
    struct address address = free_address();
    int listener = listening_at(&address);
    int client = dial(&address);
    MUST((int)write(client, "?", 1));
    MUST(close(client));
    int server = outcome("closed", accept(listener, NULL, NULL));
    char bytes[8];
    say("read", "%zd", read(server, bytes, sizeof bytes));
    say("end", "%zd", read(server, bytes, sizeof bytes));

    client = dial(&address);
    struct address own = name_of(client);
    struct linger linger = {1, 0};
    MUST(setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    MUST(close(client));
    struct address peer = {.length = sizeof peer.storage};
    server = outcome("reset", accept(listener, SA(&peer), &peer.length));
    whether("peer", is_same(&peer, &own));
    outcome("read_reset", (int)read(server, bytes, sizeof bytes));
}

enum { THREADS = 100, EACH = 3 };

static void *accept_some(void *argument) {
    int listener = (int)(intptr_t)argument;
    for (int i = 0; i < EACH; i++) {
        int server = accept(listener, NULL, NULL);
        char byte;
        if (server < 0 || read(server, &byte, 1) != 1 || write(server, &byte, 1) != 1)
            return (void *)1;
        close(server);
    }
    return NULL;
}

CASE(a_hundred_threads_accept) {
    struct address address = free_address();
    int listener = listening_at(&address);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        MUST(-pthread_create(&threads[i], NULL, accept_some, (void *)(intptr_t)listener));
    int served = 0;
    for (int i = 0; i < THREADS * EACH; i++) {
        int client = dial(&address);
        char byte = 0;
        served += write(client, "x", 1) == 1 && read(client, &byte, 1) == 1 && byte == 'x';
        close(client);
    }
    say("served", "%d", served);
    int failed = 0;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        failed += result != NULL;
    }
    say("failed_threads", "%d", failed);
}

CASE(closing_does_not_wake_who_waits) {
    struct address address = free_address();
    int listener = listening_at(&address);
    handle(SIGUSR1, note, 0);
    pid_t id;
    pthread_t thread = waiting_thread(listener, &id);
    MUST(close(listener));
    outcome("closed", accept(listener, NULL, NULL));
    await_blocked(id);
    for (int i = 0; i < 50 && !has_ended; i++)
        poll(NULL, 0, 1);
    whether("still_waiting", !has_ended);
    /* Again and again: a signal that comes just before it waits does not interrupt. */
    while (!has_ended) {
        pthread_kill(thread, SIGUSR1);
        poll(NULL, 0, 1);
    }
    result_of("interrupted", thread);
    whether("refuses", refuses_soon(&address));
}

CASE(who_waits_is_interrupted_when_something_else_is_there) {
    /* As Java closes a socket: what is there instead says so, and a signal wakes who waits. */
    struct address address = free_address();
    int listener = listening_at(&address);
    handle(SIGUSR1, note, 0);
    pid_t id;
    pthread_t thread = waiting_thread(listener, &id);
    int ends[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    MUST(close(ends[1]));
    MUST(dup2(ends[0], listener));
    while (!has_ended) {
        pthread_kill(thread, SIGUSR1);
        poll(NULL, 0, 1);
    }
    result_of("interrupted", thread);
    outcome("again", accept(listener, NULL, NULL));
    whether("refuses", refuses_soon(&address));
}

static void *accept_until_cancelled(void *listener) {
    *(pid_t *)((void **)listener)[1] = thread_id();
    return (void *)(intptr_t)accept((int)(intptr_t)((void **)listener)[0], NULL, NULL);
}

CASE(who_waits_is_cancelled) {
    struct address address = free_address();
    int listener = listening_at(&address);
    volatile pid_t id = 0;
    void *given[2] = {(void *)(intptr_t)listener, (void *)&id};
    pthread_t thread;
    MUST(-pthread_create(&thread, NULL, accept_until_cancelled, given));
    while (id == 0)
        poll(NULL, 0, 1);
    await_blocked(id);
    MUST(-pthread_cancel(thread));
    void *result;
    MUST(-pthread_join(thread, &result));
    whether("cancelled", result == PTHREAD_CANCELED);
    serve_one("others_accept", listener, &address);
    MUST(close(listener));
    whether("refuses", refuses_soon(&address));
}

static void *listen_when_cancelled(void *given) {
    struct address *address = given;
    int state, listener = -1;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    /* Its cancellation is waited for, by itself. */
    pthread_cancel(pthread_self());
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, SA(address), address->length) == 0 && listen(listener, 16) == 0)
        address->length = 0;
    pthread_testcancel();
    return NULL;
}

CASE(who_is_to_be_cancelled_listens_first) {
    struct address address = free_address(), given = address;
    pthread_t thread;
    MUST(-pthread_create(&thread, NULL, listen_when_cancelled, &given));
    void *result;
    MUST(-pthread_join(thread, &result));
    whether("listens", given.length == 0);
    whether("cancelled", result == PTHREAD_CANCELED);
    MUST(close(dial(&address)));
}

CASE(rights_are_given_up_after_listen) {
    enum { NOBODY = 65534 };
    struct address address = free_address();
    int listener = listening_at(&address);
    if (geteuid() == 0) {
        MUST(setgid(NOBODY));
        MUST(setuid(NOBODY));
    }
    serve_one("served", listener, &address);
    struct address other = free_address();
    int second = socket_for(&other);
    outcome("bind", bind(second, SA(&other), other.length));
    outcome("listen", listen(second, 16));
    serve_one("second", second, &other);
    MUST(close(listener));
    whether("refuses", refuses_soon(&address));
}

CASE(shutdown_wakes_who_waits) {
    struct address address = free_address();
    int listener = listening_at(&address);
    pid_t id;
    pthread_t thread = waiting_thread(listener, &id);
    outcome("shutdown", shutdown(listener, SHUT_RDWR));
    result_of("woken", thread);
}
