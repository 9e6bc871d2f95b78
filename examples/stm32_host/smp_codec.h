/* The bytes of SMP over a UART: framing, CRC, base64, header and CBOR. No I/O, no heap; all state is the caller's.
 *
 * What goes over the wire for one packet (Zephyr, doc/services/device_mgmt/smp_transport.rst, "UART/serial and console"):
 *
 *     06 09 <base64> 0a        the first line
 *     04 14 <base64> 0a        each further line
 *
 * The base64 text of all lines together is one frame:
 *
 *     bytes 0-1     length: the bytes that follow, packet and CRC; high byte first
 *     bytes 2-9     SMP header (smp_protocol.rst)
 *                     2     version (bits 3-4) and op (bits 0-2): 0 read, 1 its response, 2 write, 3 its response
 *                     3     flags, 0
 *                     4-5   bytes of CBOR behind the header, high byte first
 *                     6-7   group, high byte first: 0 OS, 1 image
 *                     8     sequence; the response has its request's
 *                     9     command
 *     bytes 10-     payload: one CBOR map; a0, the empty one, where a command needs no keys
 *     last two      CRC-16/XMODEM (polynomial 0x1021, initial value 0) of header and payload, high byte first
 *
 * The version bits are 0 here: every server takes that, and reports errors to it as "rc" alone.
 */
#ifndef SMP_CODEC_H
#define SMP_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SMP_LINE_SIZE 127u   /* longest line with its newline (smp_transport.rst); MCUboot's buffer has one byte more */
#define SMP_LINE_BYTES 93u   /* bytes of a frame in a full line: (127 - 2 marker - 1 newline) / 4 * 3 */
#define SMP_HEADER_SIZE 8u
#define SMP_FRAME_EXTRA 4u   /* length field and CRC */

enum smp_op { SMP_READ = 0, SMP_WRITE = 2 };
enum smp_group { SMP_OS = 0, SMP_IMAGE = 1 };
enum smp_command { SMP_IMAGE_STATE = 0, SMP_IMAGE_UPLOAD = 1, SMP_OS_RESET = 5 };

uint16_t smp_crc16(const uint8_t *data, size_t size);

/* --- Writing a request ------------------------------------------------------------------------------------------- */

typedef struct {
    uint8_t *frame; /* where the length field is */
    uint8_t *at;    /* where the next byte of CBOR goes */
    uint8_t *end;   /* behind the last byte of room for CBOR; the CRC's two are kept free */
    bool ok;        /* false once something did not fit */
} smp_writer;

/* Begin a request in `buffer`. Its size limits the packet: `size` - 4. */
void smp_begin(smp_writer *w, uint8_t *buffer, size_t size, enum smp_op op, enum smp_group group, uint8_t command);
void smp_put_map(smp_writer *w, uint32_t pairs);
void smp_put_text(smp_writer *w, const char *text);
void smp_put_uint(smp_writer *w, uint32_t value);
void smp_put_bytes(smp_writer *w, const uint8_t *data, size_t size);

/* Fill in length, sequence and CRC. To send a packet again with another sequence, call it again. Returns the bytes of
 * the frame, 0 if the request did not fit. */
size_t smp_finish(smp_writer *w, uint8_t sequence);

/* The next line of a frame, from byte `*at` on, which moves; returns the line's bytes, 0 behind the end. Lines hold
 * whole groups of four characters, because MCUboot decodes each line by itself (boot_serial.c, boot_serial_in_dec). */
size_t smp_line(const uint8_t *frame, size_t size, size_t *at, uint8_t line[SMP_LINE_SIZE]);

/* --- Reading a response ------------------------------------------------------------------------------------------ */

/* Takes the bytes of the UART one by one. What is not SMP, such as the text of a log, is skipped, also between the
 * lines of a frame; a frame with a fault is dropped. */
typedef struct {
    uint8_t *buffer;
    size_t size;
    size_t have;    /* bytes of the frame so far */
    uint32_t bits;  /* the group of four characters that has begun ... */
    uint8_t chars;  /* ... how many of them there are ... */
    uint8_t padded; /* ... and how many of those are '=' */
    uint8_t before; /* the byte before, as markers have two */
    bool open;      /* a frame has begun and not ended */
    bool inside;    /* this line belongs to it */
} smp_decoder;

void smp_decoder_init(smp_decoder *d, uint8_t *buffer, size_t size);
/* Returns the size of a packet that this byte has completed (it is at buffer + 2, until the next call), otherwise 0. */
size_t smp_decoder_feed(smp_decoder *d, uint8_t byte);

typedef struct {
    uint8_t op;
    uint16_t group;
    uint8_t sequence;
    uint8_t command;
} smp_header;

/* Whether a packet begins with a header whose length is right. */
bool smp_parse_header(const uint8_t *packet, size_t size, smp_header *header);

/* CBOR (RFC 8949, section 3): the first byte of an item is its major type (3 bits) and a small value, or how many bytes
 * the value has. MCUboot answers with maps and arrays of indefinite length (bf, 9f), which end with ff. */
enum cbor_major { CBOR_UINT = 0, CBOR_BYTES = 2, CBOR_TEXT = 3, CBOR_ARRAY = 4, CBOR_MAP = 5, CBOR_TAG = 6 };

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
    bool ok; /* false once something could not be read */
} cbor_reader;

typedef struct {
    uint8_t major;
    bool indefinite;
    uint32_t value;      /* number, bytes of a string, or what is left of an array or map */
    const uint8_t *data; /* of a string */
} cbor_item;

bool cbor_next(cbor_reader *r, cbor_item *item);       /* the next item; of an array or map, only its head */
bool cbor_more(cbor_reader *r, cbor_item *container);  /* whether another element, or pair, follows */
void cbor_skip(cbor_reader *r, const cbor_item *item); /* what is inside of an item that was read */
bool cbor_is(const cbor_item *item, const char *text);

#endif
