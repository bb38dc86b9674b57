/* egress MODE ...: a job that was given a way out, and what it tries beside it.
 * "say": send /inputs/data to the proxy at once, print what comes back. "facts ADDRESS PORT": print what else it can
 * reach, one "name yes|no" a line. "hold": keep a connection to the proxy open for ever. "own": serve its own loopback. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/ethernet.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROXY 3128

static struct sockaddr_in at(const char *address, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    return to;
}

static int reach(const char *address, int port) {
    struct sockaddr_in to = at(address, port);
    struct timeval patience = {.tv_sec = 2};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
    close(fd);
    return -1;
}

static int say(void) {
    static char buffer[1 << 16];
    int proxy = reach("127.0.0.1", PROXY); /* the first thing that it does: no second try */
    if (proxy < 0) return 9;
    int data = open("/inputs/data", O_RDONLY);
    for (ssize_t n; (n = read(data, buffer, sizeof buffer)) > 0;)
        if (write(proxy, buffer, (size_t)n) != n) return 8;
    for (ssize_t n; (n = read(proxy, buffer, sizeof buffer)) > 0;)
        if (write(1, buffer, (size_t)n) != n) return 7;
    return 0;
}

static void tell(const char *name, int does) { printf("%s %s\n", name, does ? "yes" : "no"); }

static int sends(const char *address) {
    struct sockaddr_in to = at(address, 53);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    int sent = sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to) == 1;
    close(fd);
    return sent;
}

static int opens(int family, int kind, int protocol) {
    int fd = socket(family, kind, protocol);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static int takes(const char *address, int option) {
    struct sockaddr_in here = at(address, PROXY);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, option, &one, sizeof one);
    int taken = bind(fd, (struct sockaddr *)&here, sizeof here) == 0 && listen(fd, 1) == 0;
    close(fd);
    return taken;
}

/* RTM_NEWADDR on lo: an address of its own choice needs CAP_NET_ADMIN */
static int sets_address(void) {
    struct { struct nlmsghdr head; char body[64]; } ask = {.head = {.nlmsg_len = 32, .nlmsg_type = 20, .nlmsg_flags = 0x605}};
    struct { struct nlmsghdr head; int error; char rest[256]; } answer = {0};
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    if (fd < 0 || send(fd, &ask, 32, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < 20) return 0;
    return answer.error == 0;
}

static int interfaces(void) {
    char line[512];
    int count = -2;
    FILE *file = fopen("/proc/net/dev", "r");
    while (file && fgets(line, sizeof line, file)) count++;
    return count;
}

static int routes(void) {
    char line[512];
    int count = -1;
    FILE *file = fopen("/proc/net/route", "r");
    while (file && fgets(line, sizeof line, file)) count++;
    return count;
}

static int facts(const char *host, int port) {
    printf("interfaces %d\nroutes %d\n", interfaces(), routes());
    tell("proxy", reach("127.0.0.1", PROXY) >= 0);
    tell("host-loopback", reach("127.0.0.1", port) >= 0);
    tell("host-address", reach(host, port) >= 0);
    tell("bridge", reach("172.17.0.1", port) >= 0);
    tell("metadata", reach("169.254.169.254", 80) >= 0);
    tell("documentation", reach("192.0.2.1", 80) >= 0);
    tell("dns", sends("192.0.2.1"));
    tell("raw", opens(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    tell("packet", opens(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
    tell("new-namespace", unshare(CLONE_NEWNET) == 0);
    tell("steals-the-port", takes("127.0.0.1", SO_REUSEPORT) || takes("0.0.0.0", SO_REUSEADDR));
    tell("sets-an-address", sets_address());
    tell("engine", access("/var/run/docker.sock", F_OK) == 0);
    return 0;
}

static int own(void) {
    struct sockaddr_in here = at("127.0.0.1", 8080);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) != 0 || listen(fd, 1) != 0) return 1;
    int mine = reach("127.0.0.1", 8080) >= 0;
    puts(getenv("http_proxy"));
    return mine ? 0 : 1;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "say") == 0) return say();
    if (strcmp(mode, "facts") == 0) return facts(argv[2], atoi(argv[3]));
    if (strcmp(mode, "own") == 0) return own();
    if (strcmp(mode, "hold") == 0 && reach("127.0.0.1", PROXY) >= 0)
        for (;;) pause();
    return 2;
}
