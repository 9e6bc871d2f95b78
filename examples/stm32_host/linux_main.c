/* The host on a PC: stm32_host PORT BAUD IMAGE [NUMBER]. For trying it out, and for tests of it. */
#define _DEFAULT_SOURCE

#include "smp_host.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int file;
    uint8_t buffer[256];
    size_t at, have;
} uart;

static uint32_t now_ms(void *context)
{
    struct timespec now;

    (void)context;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u);
}

static void write_all(void *context, const uint8_t *data, size_t size)
{
    uart *u = context;

    while (size > 0) {
        ssize_t done = write(u->file, data, size);
        if (done < 0) {
            perror("write");
            exit(2);
        }
        data += done;
        size -= (size_t)done;
    }
}

static int read_byte(void *context)
{
    uart *u = context;
    struct pollfd ready = {.fd = u->file, .events = POLLIN};

    if (u->at == u->have) {
        ssize_t done = poll(&ready, 1, 5) > 0 ? read(u->file, u->buffer, sizeof u->buffer) : 0;
        u->at = 0;
        u->have = done > 0 ? (size_t)done : 0;
    }
    return u->at < u->have ? u->buffer[u->at++] : -1;
}

static speed_t speed_of(long baud)
{
    static const struct {
        long baud;
        speed_t speed;
    } SPEEDS[] = {{115200, B115200}, {230400, B230400}, {460800, B460800}, {921600, B921600}, {1000000, B1000000}};

    for (size_t i = 0; i < sizeof SPEEDS / sizeof *SPEEDS; i++) {
        if (SPEEDS[i].baud == baud) {
            return SPEEDS[i].speed;
        }
    }
    fprintf(stderr, "no such baud rate: %ld\n", baud);
    exit(2);
}

static int open_uart(const char *name, long baud)
{
    struct termios settings;
    int file = open(name, O_RDWR | O_NOCTTY);

    if (file < 0 || tcgetattr(file, &settings) != 0) {
        perror(name);
        exit(2);
    }
    cfmakeraw(&settings); /* above all no CR for LF, and no echo */
    settings.c_cflag |= CLOCAL | CREAD;
    cfsetspeed(&settings, speed_of(baud));
    if (tcsetattr(file, TCSANOW, &settings) != 0) {
        perror(name);
        exit(2);
    }
    return file;
}

static uint8_t *read_file(const char *name, size_t *size)
{
    FILE *file = fopen(name, "rb");
    long end = file != NULL && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    uint8_t *data = end > 0 ? malloc((size_t)end) : NULL;

    if (data == NULL || fseek(file, 0, SEEK_SET) != 0 || fread(data, 1, (size_t)end, file) != (size_t)end) {
        perror(name);
        exit(2);
    }
    fclose(file);
    *size = (size_t)end;
    return data;
}

int main(int argc, char **argv)
{
    static uint8_t tx[SMP_TX_SIZE], rx[SMP_RX_SIZE];
    uart u = {.file = -1};
    smp_port port = {now_ms, write_all, read_byte, &u};
    smp_host host;
    smp_status status;
    size_t size;
    uint8_t *image;

    if (argc < 4) {
        fprintf(stderr, "usage: %s PORT BAUD IMAGE [NUMBER]\n", argv[0]);
        return 2;
    }
    image = read_file(argv[3], &size);
    u.file = open_uart(argv[1], atol(argv[2]));
    smp_host_init(&host, &port, (uint32_t)atol(argv[2]), tx, sizeof tx, rx, sizeof rx);
    status = smp_update(&host, argc > 4 ? (uint32_t)atol(argv[4]) : 0, image, size, true);
    printf("update: %s (rc %u), %u of %u bytes, %u requests repeated\n", smp_status_text(status), (unsigned)host.rc,
           (unsigned)host.off, (unsigned)size, (unsigned)host.repeats);
    free(image);
    return status == SMP_OK ? 0 : 1;
}
