/* Attacks on the absence of a network. Addresses are those for documentation (RFC 5737, RFC 3849), or the suite's own. */
#define _GNU_SOURCE
#include "abuse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static long reach(const char *address, int port, int kind) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int six = strchr(address, ':') != NULL;
    inet_pton(six ? AF_INET6 : AF_INET, address, six ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr);
    int fd = socket(six ? AF_INET6 : AF_INET, kind, 0);
    if (fd < 0) return -1;
    long result = six ? connect(fd, (void *)&v6, sizeof v6) : connect(fd, (void *)&v4, sizeof v4);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

/* ADDRESS PORT, any number of them */
static int connects(char **a) {
    for (; a[0] && a[1]; a += 2) said(a[0], reach(a[0], atoi(a[1]), SOCK_STREAM));
    return 0;
}

static int datagrams(char **a) {
    for (; a[0] && a[1]; a += 2) said(a[0], reach(a[0], atoi(a[1]), SOCK_DGRAM));
    return 0;
}

/* a question for a name, to a resolver at an address for documentation */
static int resolves(char **a) {
    (void)a;
    static const char question[] = "\x12\x34\x01\0\0\1\0\0\0\0\0\0\6insula\7example\0\0\x10\0\1";
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
    inet_pton(AF_INET, "198.51.100.53", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return said("dns", fd < 0 ? -1 : sendto(fd, question, sizeof question - 1, 0, (void *)&to, sizeof to));
}

/* every interface but lo, and every route that is not lo's, stands there as one line: without a route to anywhere,
 * an address of metadata is as far as any other */
static int routes(char **a) {
    (void)a;
    static const char *const tables[] = {"/proc/net/route", "/proc/net/ipv6_route", "/proc/net/dev"};
    static const int heading[] = {1, 0, 2};
    char line[512];
    for (int i = 0; i < 3; i++) {
        FILE *file = fopen(tables[i], "r");
        for (int n = 0; file && fgets(line, sizeof line, file); n++)
            if (n >= heading[i] && !strstr(line, " lo") && !strstr(line, "lo:")) said(line, 0);
        if (file) fclose(file);
    }
    errno = ENETUNREACH;
    return said("a route", -1);
}

static int sockets(char **a) {
    (void)a;
    static const struct { const char *name; int family, kind, protocol; } each[] = {
        {"raw", AF_INET, SOCK_RAW, 1}, {"raw6", AF_INET6, SOCK_RAW, 58}, {"packet", AF_PACKET, SOCK_RAW, 768},
        {"packet-dgram", AF_PACKET, SOCK_DGRAM, 768},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++)
        said(each[i].name, socket(each[i].family, each[i].kind, each[i].protocol));
    return 0;
}

static int families(char **a) {
    (void)a;
    static const struct { const char *name; int family, kind; } each[] = {
        {"vsock", 40, SOCK_STREAM}, {"vsock-dgram", 40, SOCK_DGRAM}, {"alg", 38, SOCK_SEQPACKET},
        {"bluetooth", 31, SOCK_RAW}, {"can", 29, SOCK_RAW}, {"xdp", 44, SOCK_RAW}, {"tipc", 30, SOCK_STREAM},
        {"smc", 43, SOCK_STREAM}, {"key", 15, SOCK_RAW}, {"rds", 21, SOCK_SEQPACKET}, {"qipcrtr", 42, SOCK_DGRAM},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        int pair[2];
        said(each[i].name, socket(each[i].family, each[i].kind, 0));
        said(each[i].name, socketpair(each[i].family, each[i].kind, 0, pair));
    }
    return 0;
}

/* A kernel without a family refuses it by itself: the one that every kernel has shows who refuses. */
static int pair_of_inet(char **a) {
    (void)a;
    int pair[2], result = socketpair(AF_INET, SOCK_STREAM, 0, pair);
    return said("pair of inet", result < 0 && errno == EPERM ? -1 : 0);
}

static int netlink(char **a) {
    (void)a;
    said("netlink netfilter", socket(AF_NETLINK, SOCK_RAW, 12));
    said("netlink audit", socket(AF_NETLINK, SOCK_RAW, 9));
    return said("netlink uevent", socket(AF_NETLINK, SOCK_RAW, 15));
}

/* names in the abstract space belong to a network namespace */
static int abstract_socket(char **a) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path + 1, a[0], sizeof to.sun_path - 2);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return said("abstract socket", connect(fd, (void *)&to, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(a[0])));
}

static int unix_sockets(char **paths) {
    for (; *paths; paths++) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        strncpy(to.sun_path, *paths, sizeof to.sun_path - 1);
        said(*paths, connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&to, sizeof to));
    }
    return 0;
}

const struct attack network_attacks[] = {
    {"connect", connects}, {"datagram", datagrams}, {"dns", resolves}, {"routes", routes}, {"raw-sockets", sockets},
    {"socket-families", families}, {"pair-of-inet", pair_of_inet}, {"netlink", netlink}, {"abstract-socket", abstract_socket},
    {"unix-sockets", unix_sockets}, {NULL, NULL},
};
