/* What every case of the socket-call matrix uses.
 *
 * A case does something with listening sockets and says what it saw, one `key=value` a line, with
 * nothing in it that differs from run to run: ports and paths are compared here, and errors are
 * said by their names. Its own clients are ordinary sockets of the same process or of a child.
 */
#ifndef CALLS_H
#define CALLS_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A case is its function: `CASE(name) { ... }`. A process that a case has made with exec goes on
 * in a `THEN(name)`, whose argument is a descriptor it was given. */
#define CASE(name)                                                            \
    static void case_##name(void);                                            \
    __attribute__((constructor)) static void register_##name(void) {          \
        add_case(#name, case_##name);                                         \
    }                                                                         \
    static void case_##name(void)
#define THEN(name)                                                            \
    static void then_##name(int given);                                       \
    __attribute__((constructor)) static void register_then_##name(void) {     \
        add_then(#name, then_##name);                                         \
    }                                                                         \
    static void then_##name(int given)

void add_case(const char *name, void (*run)(void));
void add_then(const char *name, void (*run)(int));

/* Says one line: `key=value`. */
void say(const char *key, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Says `ok`, or the error's name; gives the result back. */
int outcome(const char *key, int result);
/* Says `yes` or `no`. */
void whether(const char *key, bool fact);
/* For what is not in question: a failure ends the case. */
int must(int result, const char *what);
#define MUST(call) must((call), #call)

struct address {
    struct sockaddr_storage storage;
    socklen_t length;
};
#define SA(address) ((struct sockaddr *)&(address)->storage)

/* An IPv4 address of the loopback network that no other process uses, and port 0. */
struct address loopback(void);
/* The same with a port that is free there. */
struct address free_address(void);
struct address ipv4(uint32_t host, uint16_t port);
struct address ipv6(const struct in6_addr *host, uint16_t port);
struct address local_path(const char *path);
struct address abstract_name(const char *suffix);
bool has_ipv6(void);
uint16_t port_of(const struct address *address);
struct address with_port(struct address address, uint16_t port);
bool is_same(const struct address *one, const struct address *other);
struct address name_of(int socket);
struct address peer_of(int socket);

/* A socket of that address's family. */
int socket_for(const struct address *address);
/* The same, bound there; and listening there. */
int bound_at(const struct address *address);
int listening_at(const struct address *address);
/* A client that is connected to that address. */
int dial(const struct address *address);
/* One byte goes there and another one back. */
bool talks(int server, int client);
/* Waits for a connection, accepts it, says whether it is served; gives nothing back. */
void serve_one(const char *key, int listener, const struct address *address);
/* Whether clients are turned away there, now or soon. */
bool refuses_soon(const struct address *address);
/* Whether the descriptor is ready for reading at once; or within seconds. */
bool is_readable(int descriptor);
bool becomes_readable(int descriptor);
int option(int socket, int level, int name);
void set_option(int socket, int level, int name, int value);
int open_descriptors(void);

/* Whether the other thread waits in a system call that waits for connections. */
void await_blocked(pid_t thread);
pid_t thread_id(void);
pid_t make_child(void);
void await_child(pid_t child);
/* Ends a child that did its part, and the case in the process that began it. */
_Noreturn void done(void);
/* Goes on as a new program in `THEN(name)`. */
_Noreturn void become(const char *name, int descriptor);

#endif
