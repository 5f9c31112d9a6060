/* Runs one case of the socket-call matrix: `calls CASE FIFO` says what it saw in the FIFO, last
 * `end`, and waits to be killed, so that nobody starts it again. `calls --list` names the cases. */
#include "calls.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <stdarg.h>
#include <sys/prctl.h>

enum { MOST_CASES = 200, SECONDS_AT_MOST = 15 };

static struct {
    const char *name;
    void (*run)(void);
    void (*then)(int);
} cases[MOST_CASES];
static int case_count;

static void end_of_time(int signal) {
    (void)signal;
    static const char text[] = "ran out of time\nend\n";
    if (write(1, text, sizeof text - 1) < 0)
        _exit(1);
    _exit(1);
}

int main(int count, char **arguments) {
    signal(SIGPIPE, SIG_IGN);
    if (count == 2 && strcmp(arguments[1], "--list") == 0) {
        for (int i = 0; i < case_count; i++)
            if (cases[i].run)
                puts(cases[i].name);
        return 0;
    }
    signal(SIGALRM, end_of_time);
    alarm(SECONDS_AT_MOST);
    if (count == 4 && strcmp(arguments[1], "--then") == 0) {
        for (int i = 0; i < case_count; i++)
            if (cases[i].then && strcmp(cases[i].name, arguments[2]) == 0) {
                cases[i].then(atoi(arguments[3]));
                done();
            }
        return 2;
    }
    if (count != 3) {
        fprintf(stderr, "usage: calls CASE FIFO\n");
        return 2;
    }
    int fifo = open(arguments[2], O_WRONLY);
    if (fifo < 0 || dup2(fifo, 1) < 0)
        return 2;
    close(fifo);
    char leader[16];
    snprintf(leader, sizeof leader, "%d", getpid());
    setenv("CALLS_LEADER", leader, 1);
    say("begin", "%s", arguments[1]);
    for (int i = 0; i < case_count; i++)
        if (cases[i].run && strcmp(cases[i].name, arguments[1]) == 0) {
            cases[i].run();
            done();
        }
    say("failed", "there is no such case");
    done();
}

void add_case(const char *name, void (*run)(void)) {
    cases[case_count].name = name;
    cases[case_count++].run = run;
}

void add_then(const char *name, void (*run)(int)) {
    cases[case_count].name = name;
    cases[case_count++].then = run;
}

_Noreturn void done(void) {
    const char *leader = getenv("CALLS_LEADER");
    if (!leader || atoi(leader) != getpid())
        _exit(0);
    alarm(0);
    static const char text[] = "end\n";
    if (write(1, text, sizeof text - 1) < 0)
        _exit(1);
    for (;;)
        pause();
}

void say(const char *key, const char *format, ...) {
    char line[512];
    int length = snprintf(line, sizeof line, "%s=", key);
    va_list arguments;
    va_start(arguments, format);
    length += vsnprintf(line + length, sizeof line - 1 - length, format, arguments);
    va_end(arguments);
    line[length++] = '\n';
    /* One write: lines of several processes do not mix, pipe(7). */
    if (write(1, line, length) != length)
        _exit(1);
}

int outcome(const char *key, int result) {
    int error = errno;
    say(key, "%s", result >= 0 ? "ok" : strerrorname_np(error));
    errno = error;
    return result;
}

void whether(const char *key, bool fact) {
    say(key, "%s", fact ? "yes" : "no");
}

int must(int result, const char *what) {
    if (result < 0) {
        say("failed", "%s: %s", what, strerrorname_np(errno));
        done();
    }
    return result;
}

struct address ipv4(uint32_t host, uint16_t port) {
    struct address address = {.length = sizeof(struct sockaddr_in)};
    struct sockaddr_in *in = (struct sockaddr_in *)&address.storage;
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(host);
    in->sin_port = htons(port);
    return address;
}

struct address ipv6(const struct in6_addr *host, uint16_t port) {
    struct address address = {.length = sizeof(struct sockaddr_in6)};
    struct sockaddr_in6 *in = (struct sockaddr_in6 *)&address.storage;
    in->sin6_family = AF_INET6;
    in->sin6_addr = *host;
    in->sin6_port = htons(port);
    return address;
}

struct address loopback(void) {
    /* 127.64.0.0/10: pids have 22 bits at most. */
    return ipv4(0x7f400000u | ((uint32_t)getpid() & 0x3fffff), 0);
}

struct address free_address(void) {
    struct address address = loopback();
    /* By system calls: nobody who answers for the functions is to see it. */
    int probe = must((int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0), "socket");
    must((int)syscall(SYS_bind, probe, SA(&address), address.length), "bind");
    must((int)syscall(SYS_getsockname, probe, SA(&address), &address.length), "getsockname");
    syscall(SYS_close, probe);
    return address;
}

struct address local_path(const char *path) {
    struct address address = {0};
    struct sockaddr_un *un = (struct sockaddr_un *)&address.storage;
    un->sun_family = AF_UNIX;
    strncpy(un->sun_path, path, sizeof un->sun_path - 1);
    address.length = offsetof(struct sockaddr_un, sun_path) + strlen(un->sun_path) + 1;
    return address;
}

struct address abstract_name(const char *suffix) {
    struct address address = {0};
    struct sockaddr_un *un = (struct sockaddr_un *)&address.storage;
    un->sun_family = AF_UNIX;
    int length = snprintf(un->sun_path + 1, sizeof un->sun_path - 1, "calls-%d-%s", getpid(), suffix);
    address.length = offsetof(struct sockaddr_un, sun_path) + 1 + length;
    return address;
}

bool has_ipv6(void) {
    int probe = (int)syscall(SYS_socket, AF_INET6, SOCK_STREAM, 0);
    if (probe < 0)
        return false;
    struct address address = ipv6(&in6addr_loopback, 0);
    bool has = syscall(SYS_bind, probe, SA(&address), address.length) == 0;
    syscall(SYS_close, probe);
    return has;
}

uint16_t port_of(const struct address *address) {
    /* At the same place in both families. */
    return ntohs(((const struct sockaddr_in *)&address->storage)->sin_port);
}

struct address with_port(struct address address, uint16_t port) {
    ((struct sockaddr_in *)&address.storage)->sin_port = htons(port);
    return address;
}

bool is_same(const struct address *one, const struct address *other) {
    return one->length == other->length && memcmp(&one->storage, &other->storage, one->length) == 0;
}

struct address name_of(int socket) {
    struct address address = {.length = sizeof address.storage};
    MUST(getsockname(socket, SA(&address), &address.length));
    return address;
}

struct address peer_of(int socket) {
    struct address address = {.length = sizeof address.storage};
    MUST(getpeername(socket, SA(&address), &address.length));
    return address;
}

int socket_for(const struct address *address) {
    return MUST(socket(address->storage.ss_family, SOCK_STREAM, 0));
}

int bound_at(const struct address *address) {
    int bound = socket_for(address);
    MUST(bind(bound, SA(address), address->length));
    return bound;
}

int listening_at(const struct address *address) {
    int listener = bound_at(address);
    MUST(listen(listener, 64));
    return listener;
}

int dial(const struct address *address) {
    int client = socket_for(address);
    MUST(connect(client, SA(address), address->length));
    return client;
}

bool talks(int server, int client) {
    char byte = 0;
    return write(client, "?", 1) == 1 && read(server, &byte, 1) == 1 && byte == '?'
        && write(server, "!", 1) == 1 && read(client, &byte, 1) == 1 && byte == '!';
}

void serve_one(const char *key, int listener, const struct address *address) {
    int client = dial(address);
    becomes_readable(listener);
    int server = accept(listener, NULL, NULL);
    if (server < 0)
        outcome(key, server);
    else
        say(key, "%s", talks(server, client) ? "served" : "silent");
    close(server);
    close(client);
}

bool refuses_soon(const struct address *address) {
    for (int i = 0; i < 2000; i++) {
        int client = socket_for(address);
        bool refused = connect(client, SA(address), address->length) < 0
            && (errno == ECONNREFUSED || errno == ENOENT);
        close(client);
        if (refused)
            return true;
        poll(NULL, 0, 1);
    }
    return false;
}

bool is_readable(int descriptor) {
    struct pollfd poll_one = {.fd = descriptor, .events = POLLIN};
    return poll(&poll_one, 1, 0) == 1 && poll_one.revents & POLLIN;
}

bool becomes_readable(int descriptor) {
    struct pollfd poll_one = {.fd = descriptor, .events = POLLIN};
    return poll(&poll_one, 1, 5000) == 1 && poll_one.revents & POLLIN;
}

int option(int socket, int level, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    MUST(getsockopt(socket, level, name, &value, &length));
    return value;
}

void set_option(int socket, int level, int name, int value) {
    MUST(setsockopt(socket, level, name, &value, sizeof value));
}

int open_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

pid_t thread_id(void) {
    return (pid_t)syscall(SYS_gettid);
}

void await_blocked(pid_t thread) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
    /* accept and accept4; those that can wait in their place. */
    static const int waiting[] = {SYS_accept4, SYS_recvmsg, SYS_ppoll,
#ifdef SYS_accept
                                  SYS_accept,
#endif
#ifdef SYS_poll
                                  SYS_poll,
#endif
    };
    for (int i = 0; i < 5000; i++) {
        FILE *file = fopen(path, "r");
        int number = -1;
        bool is_call = file && fscanf(file, "%d", &number) == 1;
        if (file)
            fclose(file);
        for (size_t j = 0; is_call && j < sizeof waiting / sizeof *waiting; j++)
            if (number == waiting[j])
                return;
        poll(NULL, 0, 1);
    }
    say("failed", "the thread does not wait");
}

pid_t make_child(void) {
    pid_t child = MUST(fork());
    if (child == 0) {
        alarm(SECONDS_AT_MOST);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    return child;
}

void await_child(pid_t child) {
    int status;
    MUST(waitpid(child, &status, 0));
    if (status != 0)
        say("failed", "the child ended with %#x", status);
}

_Noreturn void become(const char *name, int descriptor) {
    char number[16];
    snprintf(number, sizeof number, "%d", descriptor);
    execl("/proc/self/exe", "calls", "--then", name, number, NULL);
    must(-1, "exec");
    _exit(1);
}
