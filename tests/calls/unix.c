/* Unix stream sockets: their names and their files. The working directory is the case's own. */
#include "calls.h"

static void say_file(const char *key, const char *path) {
    struct stat status;
    if (outcome(key, lstat(path, &status)) == 0)
        say("file", "%s %03o", S_ISSOCK(status.st_mode) ? "socket" : "other", status.st_mode & 07777);
}

static struct address here(const char *name) {
    char directory[80], path[120];
    if (!getcwd(directory, sizeof directory))
        MUST(-1);
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return local_path(path);
}

CASE(a_path_is_served) {
    umask(022);
    struct address address = here("socket");
    int listener = bound_at(&address);
    say_file("bound", "socket");
    MUST(chmod("socket", 0600));
    MUST(listen(listener, 16));
    say_file("listening", "socket");
    struct address name = name_of(listener);
    whether("name", is_same(&name, &address));
    int client = dial(&address);
    struct address peer = {.length = sizeof peer.storage};
    memset(&peer.storage, 0xee, sizeof peer.storage);
    int server = MUST(accept(listener, SA(&peer), &peer.length));
    say("nameless_client", "%u bytes, family %d", peer.length, peer.storage.ss_family);
    struct address local = name_of(server);
    whether("name_of_the_accepted", is_same(&local, &address));
    whether("talks", talks(server, client));
    MUST(chmod("socket", 0640));
    say_file("changed", "socket");
    serve_one("again", listener, &address);
}

CASE(a_file_is_made_with_the_umask) {
    struct address address = here("socket");
    umask(027);
    int listener = bound_at(&address);
    say_file("made", "socket");
    MUST(listen(listener, 16));
    serve_one("served", listener, &address);
    say("umask", "%03o", umask(0));
}

CASE(a_path_belongs_to_the_working_directory) {
    MUST(mkdir("elsewhere", 0700));
    MUST(chdir("elsewhere"));
    umask(022);
    struct address address = local_path("socket");
    int listener = bound_at(&address);
    say_file("relative", "socket");
    MUST(listen(listener, 16));
    struct address name = name_of(listener);
    whether("name", is_same(&name, &address));
    serve_one("served", listener, &address);
    struct address path = here("socket");
    serve_one("served_by_its_whole_path", listener, &path);
}

CASE(an_abstract_name_is_served) {
    struct address address = abstract_name("web");
    int listener = listening_at(&address);
    struct address name = name_of(listener);
    whether("name", is_same(&name, &address));
    int second = socket_for(&address);
    outcome("second", bind(second, SA(&address), address.length));
    serve_one("served", listener, &address);
    MUST(close(listener));
    whether("refuses", refuses_soon(&address));
    int again = listening_at(&address);
    serve_one("served_again", again, &address);
}

CASE(a_name_is_chosen_by_the_kernel) {
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un unnamed = {.sun_family = AF_UNIX};
    outcome("bind", bind(listener, (struct sockaddr *)&unnamed, sizeof unnamed.sun_family));
    MUST(listen(listener, 16));
    struct address name = name_of(listener);
    say("length", "%u", name.length);
    serve_one("served", listener, &name);
}

CASE(a_named_client_is_known_by_its_name) {
    struct address address = here("socket"), own = here("client");
    int listener = listening_at(&address);
    int client = bound_at(&own);
    outcome("connect", connect(client, SA(&address), address.length));
    struct address peer = {.length = sizeof peer.storage};
    int server = MUST(accept(listener, SA(&peer), &peer.length));
    whether("path", is_same(&peer, &own));
    struct address abstract = abstract_name("client");
    client = bound_at(&abstract);
    MUST(connect(client, SA(&address), address.length));
    peer.length = sizeof peer.storage;
    server = MUST(accept(listener, SA(&peer), &peer.length));
    whether("abstract", is_same(&peer, &abstract));
    whether("talks", talks(server, client));
    say_file("file_of_the_client", "client");
    char room[64];
    memset(room, 0x55, sizeof room);
    client = dial(&address);
    socklen_t length = 1;
    MUST(accept(listener, (struct sockaddr *)room, &length));
    say("short_room", "%u", length);
    whether("nothing_behind", room[1] == 0x55);
}

CASE(a_path_in_use_is_refused) {
    struct address address = here("socket");
    int listener = listening_at(&address);
    int second = socket_for(&address);
    outcome("listening", bind(second, SA(&address), address.length));
    outcome("bound_already", bind(listener, SA(&address), address.length));
    serve_one("still_served", listener, &address);
    struct address other = here("other");
    outcome("elsewhere", bind(second, SA(&other), other.length));
    MUST(listen(second, 4));
    serve_one("served_elsewhere", second, &other);
    close(MUST(open("file", O_CREAT | O_WRONLY, 0644)));
    struct address file = here("file");
    int third = socket_for(&file);
    outcome("a_file", bind(third, SA(&file), file.length));
    say_file("file_is_still_there", "file");
}

CASE(a_stale_path_is_removed_first) {
    struct address address = here("socket");
    /* By system calls, as a process does that was killed. */
    int stale = MUST((int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
    MUST((int)syscall(SYS_bind, stale, SA(&address), address.length));
    MUST((int)syscall(SYS_close, stale));
    int listener = socket_for(&address);
    outcome("stale", bind(listener, SA(&address), address.length));
    outcome("unlink", unlink("socket"));
    outcome("bind", bind(listener, SA(&address), address.length));
    outcome("listen", listen(listener, 16));
    serve_one("served", listener, &address);
}

CASE(a_path_is_removed_while_it_is_served) {
    struct address address = here("socket");
    int listener = listening_at(&address);
    int client = dial(&address);
    outcome("unlink", unlink("socket"));
    say_file("removed", "socket");
    int server = outcome("accept", accept(listener, NULL, NULL));
    whether("talks", talks(server, client));
    int late = socket_for(&address);
    outcome("connect", connect(late, SA(&address), address.length));
    int again = socket_for(&address);
    outcome("bind_again", bind(again, SA(&address), address.length));
}

CASE(a_path_stays_when_its_socket_is_closed) {
    struct address address = here("socket");
    int listener = listening_at(&address);
    MUST(close(listener));
    whether("refuses", refuses_soon(&address));
    say_file("file", "socket");
    unlink("socket");
    say_file("removed", "socket");
    int again = socket_for(&address);
    outcome("bind", bind(again, SA(&address), address.length));
    outcome("listen", listen(again, 4));
    serve_one("served", again, &address);
}

CASE(a_path_is_renamed) {
    struct address address = here("socket"), other = here("renamed");
    int listener = listening_at(&address);
    outcome("rename", rename("socket", "renamed"));
    serve_one("served", listener, &other);
    struct address name = name_of(listener);
    whether("name_is_the_old_one", is_same(&name, &address));
}

CASE(impossible_paths_are_refused) {
    int fresh = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    struct address missing = here("missing/socket");
    outcome("missing_directory", bind(fresh, SA(&missing), missing.length));
    close(MUST(open("file", O_CREAT | O_WRONLY, 0644)));
    struct address inside = here("file/socket");
    outcome("inside_a_file", bind(fresh, SA(&inside), inside.length));
    struct address directory = here(".");
    outcome("a_directory", bind(fresh, SA(&directory), directory.length));
    char room[200] = {0};
    memset(room, 'x', 150);
    ((struct sockaddr *)room)->sa_family = AF_UNIX;
    outcome("too_long", bind(fresh, (struct sockaddr *)room, 120));
    struct address other_family = ipv4(INADDR_LOOPBACK, 0);
    outcome("other_family", bind(fresh, SA(&other_family), other_family.length));
    /* All of sun_path, without a zero at its end. */
    int long_one = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un full = {.sun_family = AF_UNIX};
    memset(full.sun_path, 'y', sizeof full.sun_path);
    outcome("just_long_enough", bind(long_one, (struct sockaddr *)&full, sizeof full));
    MUST(listen(long_one, 4));
    struct address name = name_of(long_one);
    say("length", "%u", name.length);
    struct address address = {.length = sizeof full};
    memcpy(&address.storage, &full, sizeof full);
    serve_one("served", long_one, &address);
}

CASE(a_directory_without_rights_is_refused) {
    enum { NOBODY = 65534 };
    MUST(mkdir("closed", 0500));
    pid_t child = make_child();
    if (child == 0) {
        struct address address = here("closed/socket");
        if (geteuid() == 0) {
            MUST(setgid(NOBODY));
            MUST(setuid(NOBODY));
        }
        int fresh = socket_for(&address);
        outcome("bind", bind(fresh, SA(&address), address.length));
        done();
    }
    await_child(child);
}

CASE(a_unix_listener_describes_itself) {
    struct address address = here("socket");
    int listener = bound_at(&address);
    for (int i = 0; i < 2; i++) {
        say("type", "%d", option(listener, SOL_SOCKET, SO_TYPE));
        say("domain", "%d", option(listener, SOL_SOCKET, SO_DOMAIN));
        say("protocol", "%d", option(listener, SOL_SOCKET, SO_PROTOCOL));
        say("listens", "%d", option(listener, SOL_SOCKET, SO_ACCEPTCONN));
        struct sockaddr_un peer;
        socklen_t length = sizeof peer;
        outcome("peer", getpeername(listener, (struct sockaddr *)&peer, &length));
        struct stat status;
        MUST(fstat(listener, &status));
        whether("is_socket", S_ISSOCK(status.st_mode));
        int value;
        length = sizeof value;
        outcome("no_delay", getsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &value, &length));
        MUST(listen(listener, 16));
    }
    outcome("connect", connect(listener, SA(&address), address.length));
    struct ucred creator;
    socklen_t length = sizeof creator;
    outcome("creator", getsockopt(listener, SOL_SOCKET, SO_PEERCRED, &creator, &length));
    whether("creator_is_this_process", creator.pid == getpid());
}

CASE(both_ends_know_the_others_process) {
    struct address address = here("socket");
    int listener = listening_at(&address);
    int client = dial(&address);
    int server = MUST(accept(listener, NULL, NULL));
    struct ucred other;
    socklen_t length = sizeof other;
    MUST(getsockopt(server, SOL_SOCKET, SO_PEERCRED, &other, &length));
    whether("client_is_this_process", other.pid == getpid());
    MUST(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &other, &length));
    whether("server_is_this_process", other.pid == getpid());
}

CASE(a_unix_listener_is_shut_down) {
    struct address address = here("socket");
    int listener = listening_at(&address);
    outcome("shutdown", shutdown(listener, SHUT_RDWR));
    outcome("accept", accept(listener, NULL, NULL));
    whether("refuses", refuses_soon(&address));
}

CASE(a_unix_listener_does_not_wait) {
    struct address address = abstract_name("nonblocking");
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(bind(listener, SA(&address), address.length));
    MUST(listen(listener, 16));
    outcome("nothing", accept(listener, NULL, NULL));
    int epoll = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event));
    int client = dial(&address);
    say("events", "%d", epoll_wait(epoll, &event, 1, 5000));
    int server = outcome("one", accept4(listener, NULL, NULL, SOCK_NONBLOCK));
    whether("flag", MUST(fcntl(server, F_GETFL)) & O_NONBLOCK);
    MUST(fcntl(server, F_SETFL, 0));
    whether("talks", talks(server, client));
    MUST(close(listener));
    say("events_of_the_closed", "%d", epoll_wait(epoll, &event, 1, 0));
}

CASE(descriptors_go_over_accepted_connections) {
    struct address address = here("socket");
    int listener = listening_at(&address);
    int client = dial(&address);
    int server = MUST(accept(listener, NULL, NULL));
    char byte = 'x';
    struct iovec part = {&byte, 1};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    *CMSG_FIRSTHDR(&message) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    int sent = MUST(open("/dev/null", O_RDONLY));
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &sent, sizeof sent);
    outcome("send", (int)sendmsg(client, &message, 0));
    outcome("receive", (int)recvmsg(server, &message, 0));
    whether("has_it", CMSG_FIRSTHDR(&message) && CMSG_FIRSTHDR(&message)->cmsg_type == SCM_RIGHTS);
}
