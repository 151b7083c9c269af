/* Copyright: Contributors to the trinode.platform project
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * resolve NAME...: prints the addresses that this C library's own resolver finds, one line per name.
 * Linked statically against musl it shows what a program on another libc than glibc sees.
 * The exit status is 1 when a name did not resolve. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    int failed = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: resolve NAME...\n");
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        struct addrinfo hints, *found = NULL;
        memset(&hints, 0, sizeof hints);
        hints.ai_family = AF_UNSPEC;
        hints.ai_socktype = SOCK_STREAM;
        int error = getaddrinfo(argv[i], NULL, &hints, &found);
        if (error) {
            printf("%s: %s\n", argv[i], gai_strerror(error));
            failed = 1;
            continue;
        }
        printf("%s", argv[i]);
        for (struct addrinfo *one = found; one; one = one->ai_next) {
            char text[INET6_ADDRSTRLEN];
            const void *address = one->ai_family == AF_INET ? (const void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr
                                                            : (const void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr;
            if (inet_ntop(one->ai_family, address, text, sizeof text))
                printf(" %s", text);
        }
        printf("\n");
        freeaddrinfo(found);
    }
    return failed;
}
