#include "smp_codec.h"

#include <string.h>

enum { CBOR_BREAK = 0xff, CBOR_DEEPEST = 8 };

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

uint16_t smp_crc16(const uint8_t *data, size_t size)
{
    uint32_t crc = 0;

    while (size-- > 0) {
        crc ^= (uint32_t)*data++ << 8;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc & 0x8000u ? crc << 1 ^ 0x1021u : crc << 1;
        }
    }
    return (uint16_t)crc;
}

/* --- Writing a request ------------------------------------------------------------------------------------------- */

void smp_begin(smp_writer *w, uint8_t *buffer, size_t size, enum smp_op op, enum smp_group group, uint8_t command)
{
    w->frame = w->at = w->end = buffer;
    w->ok = size >= SMP_FRAME_EXTRA + SMP_HEADER_SIZE;
    if (w->ok) {
        buffer[2] = (uint8_t)op;
        buffer[3] = 0; /* flags */
        put16(buffer + 6, group);
        buffer[9] = command;
        w->at = buffer + 2 + SMP_HEADER_SIZE;
        w->end = buffer + size - 2;
    }
}

static void put(smp_writer *w, const void *data, size_t size)
{
    w->ok = w->ok && size <= (size_t)(w->end - w->at);
    if (w->ok && size > 0) {
        memcpy(w->at, data, size);
        w->at += size;
    }
}

/* The head of an item, as short as it can be: MCUboot refuses integers of eight bytes. */
static void put_head(smp_writer *w, enum cbor_major major, uint32_t value)
{
    uint8_t head[5] = {(uint8_t)((unsigned)major << 5)};
    size_t size = value < 24 ? 0 : value < 0x100 ? 1 : value < 0x10000 ? 2 : 4;

    head[0] |= (uint8_t)(size == 0 ? value : size == 1 ? 24 : size == 2 ? 25 : 26);
    for (size_t i = size; i > 0; i--, value >>= 8) {
        head[i] = (uint8_t)value;
    }
    put(w, head, 1 + size);
}

void smp_put_map(smp_writer *w, uint32_t pairs)
{
    put_head(w, CBOR_MAP, pairs);
}

void smp_put_text(smp_writer *w, const char *text)
{
    put_head(w, CBOR_TEXT, (uint32_t)strlen(text));
    put(w, text, strlen(text));
}

void smp_put_uint(smp_writer *w, uint32_t value)
{
    put_head(w, CBOR_UINT, value);
}

void smp_put_bytes(smp_writer *w, const uint8_t *data, size_t size)
{
    put_head(w, CBOR_BYTES, (uint32_t)size);
    put(w, data, size);
}

size_t smp_finish(smp_writer *w, uint8_t sequence)
{
    size_t packet = (size_t)(w->at - w->frame) - 2;

    if (!w->ok) {
        return 0;
    }
    put16(w->frame, packet + 2); /* the length counts the CRC, and not itself */
    put16(w->frame + 4, packet - SMP_HEADER_SIZE);
    w->frame[8] = sequence;
    put16(w->at, smp_crc16(w->frame + 2, packet));
    return packet + SMP_FRAME_EXTRA;
}

size_t smp_line(const uint8_t *frame, size_t size, size_t *at, uint8_t line[SMP_LINE_SIZE])
{
    size_t stop = size - *at > SMP_LINE_BYTES ? *at + SMP_LINE_BYTES : size;
    uint8_t *out = line;

    if (*at >= size) {
        return 0;
    }
    *out++ = *at == 0 ? 0x06 : 0x04;
    *out++ = *at == 0 ? 0x09 : 0x14;
    for (; *at < stop; *at += 3) { /* three bytes are four characters */
        size_t left = stop - *at;
        const uint8_t *in = frame + *at;
        uint32_t bits = (uint32_t)in[0] << 16 | (left > 1 ? (uint32_t)in[1] << 8 : 0) | (left > 2 ? in[2] : 0u);
        *out++ = (uint8_t)BASE64[bits >> 18];
        *out++ = (uint8_t)BASE64[bits >> 12 & 63];
        *out++ = (uint8_t)(left > 1 ? BASE64[bits >> 6 & 63] : '=');
        *out++ = (uint8_t)(left > 2 ? BASE64[bits & 63] : '=');
    }
    *out++ = '\n'; /* alone: MCUboot drops a line that ends with CR LF */
    return (size_t)(out - line);
}

/* --- Reading a response ------------------------------------------------------------------------------------------ */

void smp_decoder_init(smp_decoder *d, uint8_t *buffer, size_t size)
{
    memset(d, 0, sizeof *d);
    d->buffer = buffer;
    d->size = size;
}

static int base64_value(uint8_t c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
           : c == '='             ? 0
                                  : -1;
}

/* A group of four characters is complete: append its bytes. Returns the packet's size if that completes the frame. */
static size_t take_group(smp_decoder *d)
{
    size_t bytes = d->padded <= 2 ? 3u - d->padded : 0;
    size_t length;

    d->chars = 0;
    if (bytes == 0 || bytes > d->size - d->have) {
        d->open = d->inside = false;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++) {
        d->buffer[d->have++] = (uint8_t)(d->bits >> (16 - 8 * i));
    }
    length = d->have < 2 ? 0 : get16(d->buffer);
    if (d->padded == 0 && d->have < length + 2) {
        return 0;
    }
    d->open = d->inside = false; /* the end of the frame, be it right or wrong */
    if (d->have != length + 2 || length < SMP_HEADER_SIZE + 2) {
        return 0;
    }
    return smp_crc16(d->buffer + 2, length - 2) == get16(d->buffer + length) ? length - 2 : 0;
}

size_t smp_decoder_feed(smp_decoder *d, uint8_t byte)
{
    uint8_t before = d->before;
    int value = base64_value(byte);

    d->before = byte;
    if (before == 0x06 && byte == 0x09) { /* wherever it is: noise may stand in front */
        d->have = d->chars = d->padded = 0;
        d->open = d->inside = true;
    } else if (before == 0x04 && byte == 0x14) {
        d->inside = d->open;
    } else if (byte == '\n') {
        d->inside = false;
    } else if (d->inside && byte != '\r' && byte != 0x04 && byte != 0x06) {
        if (value < 0 || (d->padded && byte != '=')) {
            d->open = d->inside = false;
            return 0;
        }
        d->bits = d->bits << 6 | (uint32_t)value;
        d->padded = (uint8_t)(d->padded + (byte == '='));
        if (++d->chars == 4) {
            return take_group(d);
        }
    }
    return 0;
}

bool smp_parse_header(const uint8_t *packet, size_t size, smp_header *header)
{
    if (size < SMP_HEADER_SIZE || get16(packet + 2) != size - SMP_HEADER_SIZE) {
        return false;
    }
    header->op = packet[0] & 7;
    header->group = get16(packet + 4);
    header->sequence = packet[6];
    header->command = packet[7];
    return true;
}

static bool fail(cbor_reader *r)
{
    return r->ok = false;
}

bool cbor_next(cbor_reader *r, cbor_item *item)
{
    size_t left = (size_t)(r->end - r->at);
    uint8_t info = left > 0 ? *r->at & 31 : 0;
    size_t more = info < 24 || info == 31 ? 0 : info <= 27 ? (size_t)1 << (info - 24) : left;
    bool container, string;

    if (!r->ok || left < 1 + more) { /* the values 28 to 30 are not assigned, so `left` bytes more than there are */
        return fail(r);
    }
    item->major = *r->at++ >> 5;
    item->indefinite = info == 31;
    item->value = info < 24 ? info : 0;
    item->data = NULL;
    container = item->major == CBOR_ARRAY || item->major == CBOR_MAP;
    string = item->major == CBOR_BYTES || item->major == CBOR_TEXT;
    if (item->indefinite && !container) { /* strings in pieces are not needed here, and a break ends a container */
        return fail(r);
    }
    for (; more > 0; more--) {
        if (item->value > UINT32_MAX >> 8 && item->major != 7) { /* a double does not fit, and does not matter */
            return fail(r);
        }
        item->value = item->value << 8 | *r->at++;
    }
    if (string) {
        if (item->value > (size_t)(r->end - r->at)) {
            return fail(r);
        }
        item->data = r->at;
        r->at += item->value;
    }
    return true;
}

bool cbor_more(cbor_reader *r, cbor_item *container)
{
    if (!r->ok || (container->indefinite && r->at >= r->end)) {
        return fail(r);
    }
    if (container->indefinite) {
        bool ends = *r->at == CBOR_BREAK;
        r->at += ends;
        return !ends;
    }
    return container->value > 0 && container->value-- > 0;
}

static void skip(cbor_reader *r, const cbor_item *item, int depth)
{
    cbor_item inside = *item, next;
    bool map = item->major == CBOR_MAP;

    if (item->major == CBOR_TAG) { /* one item follows */
        inside.value = 1;
    } else if (!map && item->major != CBOR_ARRAY) {
        return;
    }
    r->ok = r->ok && depth > 0;
    while (cbor_more(r, &inside)) {
        for (int i = 0; i < (map ? 2 : 1) && cbor_next(r, &next); i++) {
            skip(r, &next, depth - 1);
        }
    }
}

void cbor_skip(cbor_reader *r, const cbor_item *item)
{
    skip(r, item, CBOR_DEEPEST);
}

bool cbor_is(const cbor_item *item, const char *text)
{
    return item->major == CBOR_TEXT && item->value == strlen(text) && memcmp(item->data, text, item->value) == 0;
}
