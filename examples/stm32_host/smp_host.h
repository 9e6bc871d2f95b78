/* Updates a board through MCUboot's serial recovery: image list, upload, proof by the hash in the list, reset.
 *
 *     static uint8_t tx[SMP_TX_SIZE], rx[SMP_RX_SIZE];
 *     smp_host host;
 *     smp_host_init(&host, &port, 115200, tx, sizeof tx, rx, sizeof rx);
 *     smp_status status = smp_update(&host, 0, image, image_size, true);
 *
 * One request at a time: it is sent again, with another sequence, until its response comes. MCUboot answers nothing to
 * a packet that it cannot read, and takes a chunk only at the offset that it expects; it always tells that offset as
 * "off", which is where the upload goes on, be it forward or back (boot_serial.c, bs_upload).
 */
#ifndef SMP_HOST_H
#define SMP_HOST_H

#include "smp_codec.h"

/* Seven lines of 93 bytes. MCUboot has eight line buffers (CONFIG_BOOT_LINE_BUFS), of which the reader keeps one: while
 * it erases for one request, seven lines wait, so a request that was sent again too early is not lost.
 *
 * The size of the buffer is what limits a packet. At most CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE, 1024 by default: of its
 * bytes, length and CRC take four, and a packet gets at most 1020. */
#define SMP_TX_SIZE (7u * SMP_LINE_BYTES)
#define SMP_RX_SIZE 1024u /* what MCUboot can answer at most */

typedef struct {
    uint32_t (*now_ms)(void *context);                                 /* any clock; it may wrap */
    void (*write)(void *context, const uint8_t *data, size_t size);    /* all of it */
    int (*read)(void *context); /* the next byte; -1 if none came. May wait for some milliseconds */
    void *context;
} smp_port;

typedef enum {
    SMP_OK,
    SMP_NO_ANSWER,   /* to any try */
    SMP_REFUSED,     /* host.rc says why (smp_protocol.rst, "Responses") */
    SMP_BROKEN,      /* a response that makes no sense */
    SMP_STUCK,       /* the board keeps asking for bytes that it has had */
    SMP_TOO_SMALL,   /* the tx buffer has no room for a chunk */
    SMP_APPLICATION, /* the application answers, so the board is not in recovery */
    SMP_NO_IMAGE,    /* what is to be sent is no signed MCUboot image */
    SMP_NOT_LISTED,  /* the board does not list the image: it is damaged, or its signature is not the board's */
    SMP_NO_HASH,     /* the list has no hashes (CONFIG_BOOT_SERIAL_IMG_GRP_HASH): nothing proves the upload */
} smp_status;

#define SMP_LATE_SIZE 32u /* a response to a chunk has some 15 bytes of CBOR */

typedef struct {
    smp_port port;
    uint32_t baud;
    uint8_t *tx;
    size_t tx_size;
    smp_decoder decoder;
    uint8_t sequence;
    bool flush;           /* begin with a newline: half a line may be left in MCUboot's buffer */
    uint32_t patience_ms; /* for a response, on top of what wire and flash take; grows with a slow board */
    /* To be changed after smp_host_init, if need be: */
    uint32_t first_ms; /* for the first chunk's response. Without CONFIG_BOOT_ERASE_PROGRESSIVELY the whole slot is
                        * erased before it: 448 KiB at 87.5 ms a page take 10 s on an nRF5340 */
    uint8_t tries;     /* of each request; each waits twice as long as the one before */
    /* How it went: */
    uint32_t rc;      /* of the last response, 0 if it had none */
    uint32_t off;     /* bytes uploaded */
    uint32_t repeats; /* requests that were sent again */
    uint8_t late[SMP_LATE_SIZE]; /* payload of a response to an earlier try */
} smp_host;

#define SMP_VERSION_SIZE 25u /* "255.255.65535.4294967295" */
#define SMP_HASH_SIZE 64u    /* SHA-512; 32 bytes are usual */

typedef struct {
    uint32_t image;
    uint32_t slot;
    uint8_t hash[SMP_HASH_SIZE];
    uint8_t hash_size; /* 0: the list has no hashes */
    char version[SMP_VERSION_SIZE];
} smp_image;

/* `baud` is for the time that a packet takes; the UART is the caller's. */
void smp_host_init(smp_host *h, const smp_port *port, uint32_t baud, uint8_t *tx, size_t tx_size, uint8_t *rx,
                   size_t rx_size);

/* The valid images on the board, at most `most` of them; `*count` says how many. */
smp_status smp_list(smp_host *h, smp_image *images, size_t most, size_t *count);

/* `number` is 0 for the application. Which one is the network core's depends on the bootloader; a wrong one overwrites
 * the application. */
smp_status smp_upload(smp_host *h, uint32_t number, const uint8_t *image, size_t size);

/* Whether the board lists `image`: rc 0 to every chunk proves nothing, as MCUboot checks an image only for the list. */
smp_status smp_verify(smp_host *h, uint32_t number, const uint8_t *image, size_t size);

/* The board answers first, and resets 250 ms later. SMP_NO_ANSWER comes also where the answer alone was lost; then the
 * board runs already. */
smp_status smp_reset(smp_host *h);

/* All of that. Nothing is reset before the board lists the image. */
smp_status smp_update(smp_host *h, uint32_t number, const uint8_t *image, size_t size, bool reset);

/* The hash that imgtool has put behind a signed image, which is the one that the list shows; NULL if there is none.
 * MCUboot, boot/bootutil/include/bootutil/image.h. */
const uint8_t *smp_image_hash(const uint8_t *image, size_t size, uint8_t *hash_size);

const char *smp_status_text(smp_status status);

#endif
