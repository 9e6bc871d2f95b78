#include "smp_host.h"

#include <string.h>

enum {
    PATIENCE_MS = 400,        /* interrupts, USB adapters, and a board that is about to write a log */
    MOST_PATIENCE_MS = 8000,  /* also for a try */
    PAGE = 4096,              /* of the nRF5340's flash; erasing one takes 87.5 ms (product specification, NVMC) */
    ERASE_MS = 90,
    WRITTEN_PER_MS = 90,      /* bytes: 43 us for four */
    RESPONSE_WIRE = 64,       /* bytes of a response to a chunk on the wire, at most */
    SETBACKS = 16,            /* answers that bring an upload no further, before it is given up */
    RC_BUSY = 10,             /* smp_protocol.rst; from OS reset while the network core is being updated */
    BUSY_MS = 500,
    BUSY_TRIES = 40,
    LISTED = 4,               /* two images with two slots each */
};

void smp_host_init(smp_host *h, const smp_port *port, uint32_t baud, uint8_t *tx, size_t tx_size, uint8_t *rx,
                   size_t rx_size)
{
    memset(h, 0, sizeof *h);
    h->port = *port;
    h->baud = baud;
    h->tx = tx;
    h->tx_size = tx_size;
    smp_decoder_init(&h->decoder, rx, rx_size);
    h->sequence = (uint8_t)port->now_ms(port->context); /* not the one that a host before a reset began with */
    h->flush = true;
    h->patience_ms = PATIENCE_MS;
    h->first_ms = 20000;
    h->tries = 5;
}

/* --- One request and its response -------------------------------------------------------------------------------- */

static void send(smp_host *h, smp_writer *request)
{
    uint8_t line[SMP_LINE_SIZE];
    size_t size = smp_finish(request, ++h->sequence), at = 0, length;

    if (h->flush) {
        h->port.write(h->port.context, (const uint8_t *)"\n", 1);
        h->flush = false;
    }
    while ((length = smp_line(request->frame, size, &at, line)) > 0) {
        h->port.write(h->port.context, line, length);
    }
}

/* Wait for the response to the last of `tries` times that a request was sent. One to an earlier time says that the
 * board is slow, and that the last one will follow: going on at once would put more lines in front of MCUboot than it
 * has buffers for. It counts if nothing follows. */
static bool receive(smp_host *h, const smp_writer *request, uint8_t tries, uint32_t wait_ms, cbor_reader *payload)
{
    const uint8_t *asked = request->frame + 2, *packet = h->decoder.buffer + 2;
    uint32_t start = h->port.now_ms(h->port.context);
    size_t late = 0;

    while (h->port.now_ms(h->port.context) - start < wait_ms) {
        int byte = h->port.read(h->port.context);
        size_t size = byte < 0 ? 0 : smp_decoder_feed(&h->decoder, (uint8_t)byte);
        smp_header header;
        uint8_t age;

        if (size == 0 || !smp_parse_header(packet, size, &header) || header.op != asked[0] + 1 ||
            header.group != (asked[4] << 8 | asked[5]) || header.command != asked[7]) {
            continue;
        }
        age = (uint8_t)(h->sequence - header.sequence);
        if (age == 0) {
            *payload = (cbor_reader){packet + SMP_HEADER_SIZE, packet + size, true};
            return true;
        }
        if (age < tries) {
            h->patience_ms *= h->patience_ms < MOST_PATIENCE_MS ? 2 : 1;
            late = size - SMP_HEADER_SIZE <= SMP_LATE_SIZE ? size - SMP_HEADER_SIZE : 0;
            memcpy(h->late, packet + SMP_HEADER_SIZE, late);
        }
    }
    *payload = (cbor_reader){h->late, h->late + late, true};
    return late > 0;
}

/* `slow_ms` is how long the board may work on it. */
static smp_status ask(smp_host *h, smp_writer *request, uint32_t slow_ms, cbor_reader *payload)
{
    size_t packet = (size_t)(request->at - request->frame);
    uint32_t baud = h->baud > 0 ? h->baud : 1;
    /* Four characters for three bytes, three more bytes in each line, ten bits a byte; and a line in reserve. */
    uint32_t wire_ms = ((uint32_t)packet * 7 / 5 + SMP_LINE_SIZE + RESPONSE_WIRE) * 10000u / baud;

    if (!request->ok) {
        return SMP_TOO_SMALL;
    }
    for (uint8_t tries = 1; tries <= h->tries; tries++) {
        uint32_t more_ms = h->patience_ms << (tries < 8 ? tries - 1 : 7);

        send(h, request);
        if (receive(h, request, tries, wire_ms + slow_ms + (more_ms < MOST_PATIENCE_MS ? more_ms : MOST_PATIENCE_MS),
                    payload)) {
            return SMP_OK;
        }
        h->flush = true; /* bytes were lost, perhaps a newline: what follows would be taken for the rest of that line */
        h->repeats += tries < h->tries;
    }
    return SMP_NO_ANSWER;
}

/* Reads a response with the keys "rc" and "off", which may be missing; others are skipped. */
static smp_status read_result(smp_host *h, cbor_reader *r, uint32_t *off)
{
    cbor_item map, key, value;

    h->rc = 0;
    if (cbor_next(r, &map) && map.major == CBOR_MAP) {
        while (cbor_more(r, &map) && cbor_next(r, &key) && cbor_next(r, &value)) {
            cbor_skip(r, &key);
            cbor_skip(r, &value);
            if (cbor_is(&key, "rc") && value.major == CBOR_UINT) {
                h->rc = value.value;
            } else if (cbor_is(&key, "off") && value.major == CBOR_UINT) {
                *off = value.value;
            }
        }
        return !r->ok ? SMP_BROKEN : h->rc != 0 ? SMP_REFUSED : SMP_OK;
    }
    return SMP_BROKEN;
}

/* --- Image list -------------------------------------------------------------------------------------------------- */

static void read_image(cbor_reader *r, cbor_item *map, smp_image *image)
{
    cbor_item key, value;

    memset(image, 0, sizeof *image);
    while (cbor_more(r, map) && cbor_next(r, &key) && cbor_next(r, &value)) {
        cbor_skip(r, &key);
        cbor_skip(r, &value);
        if (cbor_is(&key, "image") && value.major == CBOR_UINT) {
            image->image = value.value; /* missing where there is one image only */
        } else if (cbor_is(&key, "slot") && value.major == CBOR_UINT) {
            image->slot = value.value;
        } else if (cbor_is(&key, "hash") && value.major == CBOR_BYTES && value.value <= SMP_HASH_SIZE) {
            memcpy(image->hash, value.data, value.value);
            image->hash_size = (uint8_t)value.value;
        } else if (cbor_is(&key, "version") && value.major == CBOR_TEXT && value.value < SMP_VERSION_SIZE) {
            memcpy(image->version, value.data, value.value);
        }
    }
}

static void read_images(cbor_reader *r, cbor_item *array, smp_image *images, size_t most, size_t *count)
{
    cbor_item map;
    smp_image image;

    while (cbor_more(r, array) && cbor_next(r, &map)) {
        if (map.major != CBOR_MAP) {
            r->ok = false;
            return;
        }
        read_image(r, &map, &image);
        if (r->ok && *count < most) {
            images[(*count)++] = image;
        }
    }
}

smp_status smp_list(smp_host *h, smp_image *images, size_t most, size_t *count)
{
    smp_writer request;
    cbor_reader r;
    cbor_item map, key, value;
    bool found = false, application = false;
    smp_status status;

    *count = 0;
    h->rc = 0;
    smp_begin(&request, h->tx, h->tx_size, SMP_READ, SMP_IMAGE, SMP_IMAGE_STATE);
    smp_put_map(&request, 0);
    if ((status = ask(h, &request, 0, &r)) != SMP_OK) {
        return status;
    }
    if (!cbor_next(&r, &map) || map.major != CBOR_MAP) {
        return SMP_BROKEN;
    }
    while (cbor_more(&r, &map) && cbor_next(&r, &key) && cbor_next(&r, &value)) {
        cbor_skip(&r, &key);
        if (cbor_is(&key, "images") && value.major == CBOR_ARRAY) {
            found = true;
            read_images(&r, &value, images, most, count);
            continue;
        }
        cbor_skip(&r, &value);
        h->rc = cbor_is(&key, "rc") && value.major == CBOR_UINT ? value.value : h->rc;
        application = application || cbor_is(&key, "splitStatus"); /* MCUboot's list never has it */
    }
    return !r.ok             ? SMP_BROKEN
           : h->rc != 0      ? SMP_REFUSED
           : !found          ? SMP_BROKEN
           : application     ? SMP_APPLICATION
                             : SMP_OK;
}

/* --- Upload ------------------------------------------------------------------------------------------------------ */

/* The request for the chunk at `off` (smp_group_1.rst, "Image upload request"). Returns the chunk's bytes. */
static size_t put_chunk(smp_host *h, smp_writer *w, uint32_t number, const uint8_t *image, size_t size, uint32_t off)
{
    size_t left = size - off, room, chunk;

    smp_begin(w, h->tx, h->tx_size, SMP_WRITE, SMP_IMAGE, SMP_IMAGE_UPLOAD);
    smp_put_map(w, 2u + (number != 0) + (off == 0));
    if (number != 0) { /* 0 where it is missing. In every chunk, as older MCUboot takes it from the one at hand */
        smp_put_text(w, "image");
        smp_put_uint(w, number);
    }
    if (off == 0) { /* the size of the whole image, in the first chunk only, and in every one that begins anew */
        smp_put_text(w, "len");
        smp_put_uint(w, (uint32_t)size);
    }
    smp_put_text(w, "off");
    smp_put_uint(w, off);
    smp_put_text(w, "data");
    room = (size_t)(w->end - w->at); /* less at most three bytes of the string's head, up to 65535 */
    chunk = room > 3 ? room - 3 : 0;
    if (chunk < left) {
        chunk -= chunk % 4; /* MCUboot writes whole words, except at the end */
    } else {
        chunk = left;
    }
    smp_put_bytes(w, image + off, chunk);
    w->ok = w->ok && chunk > 0;
    return chunk;
}

/* How long flash is erased and written before the response, progressively: the pages that a chunk begins, and behind
 * the last chunk the one with the slot's trailer. */
static uint32_t flash_ms(uint32_t off, uint32_t chunk)
{
    uint32_t pages = (off + chunk + PAGE - 1) / PAGE - (off + PAGE - 1) / PAGE + 1;

    return pages * ERASE_MS + chunk / WRITTEN_PER_MS;
}

smp_status smp_upload(smp_host *h, uint32_t number, const uint8_t *image, size_t size)
{
    unsigned setbacks = 0;

    h->off = 0;
    while (h->off < size) {
        smp_writer request;
        cbor_reader response;
        size_t chunk = put_chunk(h, &request, number, image, size, h->off);
        uint32_t slow_ms = h->off == 0 ? h->first_ms : flash_ms(h->off, (uint32_t)chunk);
        uint32_t off = UINT32_MAX;
        smp_status status = ask(h, &request, slow_ms, &response);

        if (status == SMP_OK) {
            status = read_result(h, &response, &off);
        }
        if (status != SMP_OK) {
            return status;
        }
        if (off > size) { /* or there is none */
            return SMP_BROKEN;
        }
        if (off <= h->off && ++setbacks > SETBACKS) { /* 0 after a reset of the board: all of it once more */
            return SMP_STUCK;
        }
        h->off = off;
    }
    return size > 0 ? SMP_OK : SMP_NO_IMAGE;
}

/* --- Proof and reset --------------------------------------------------------------------------------------------- */

static uint32_t get_little(const uint8_t *at, size_t bytes)
{
    uint32_t value = 0;

    while (bytes-- > 0) {
        value = value << 8 | at[bytes];
    }
    return value;
}

const uint8_t *smp_image_hash(const uint8_t *image, size_t size, uint8_t *hash_size)
{
    enum { TLV_MAGIC = 0x6907, SHA256 = 0x10, SHA512 = 0x12 };
    uint64_t at, end;

    if (size < 32 || get_little(image, 4) != 0x96f3b83du) {
        return NULL;
    }
    /* Header size, image size, size of the protected TLVs; behind them the TLVs, which the hash does not cover. */
    at = (uint64_t)get_little(image + 8, 2) + get_little(image + 12, 4) + get_little(image + 10, 2);
    if (at + 4 > size || get_little(image + at, 2) != TLV_MAGIC) {
        return NULL;
    }
    end = at + get_little(image + at + 2, 2);
    end = end < size ? end : size;
    for (at += 4; at + 4 <= end; at += 4 + get_little(image + at + 2, 2)) {
        uint32_t type = get_little(image + at, 2), length = get_little(image + at + 2, 2);

        if (type >= SHA256 && type <= SHA512 && length <= SMP_HASH_SIZE && at + 4 + length <= end) {
            *hash_size = (uint8_t)length;
            return image + at + 4;
        }
    }
    return NULL;
}

smp_status smp_verify(smp_host *h, uint32_t number, const uint8_t *image, size_t size)
{
    smp_image images[LISTED];
    size_t count;
    uint8_t hash_size;
    bool hashes = false;
    const uint8_t *hash = smp_image_hash(image, size, &hash_size);
    smp_status status = hash == NULL ? SMP_NO_IMAGE : smp_list(h, images, LISTED, &count);

    for (size_t i = 0; status == SMP_OK && i < count; i++) {
        bool other = number < 2 && images[i].slot != 0; /* 0 and 1 always mean a first slot */

        hashes = hashes || images[i].hash_size > 0;
        if (!other && images[i].hash_size == hash_size && memcmp(images[i].hash, hash, hash_size) == 0) {
            return SMP_OK;
        }
    }
    return status != SMP_OK ? status : count > 0 && !hashes ? SMP_NO_HASH : SMP_NOT_LISTED;
}

smp_status smp_reset(smp_host *h)
{
    smp_status status = SMP_NO_ANSWER;

    for (int i = 0; i < BUSY_TRIES; i++) {
        smp_writer request;
        cbor_reader response;
        uint32_t off = 0, start;

        smp_begin(&request, h->tx, h->tx_size, SMP_WRITE, SMP_OS, SMP_OS_RESET);
        smp_put_map(&request, 0);
        status = ask(h, &request, 0, &response);
        if (status != SMP_OK || (status = read_result(h, &response, &off)) != SMP_REFUSED || h->rc != RC_BUSY) {
            break;
        }
        for (start = h->port.now_ms(h->port.context); h->port.now_ms(h->port.context) - start < BUSY_MS;) {
            (void)h->port.read(h->port.context);
        }
    }
    return status;
}

smp_status smp_update(smp_host *h, uint32_t number, const uint8_t *image, size_t size, bool reset)
{
    smp_image images[LISTED];
    size_t count;
    uint8_t hash_size;
    smp_status status = smp_image_hash(image, size, &hash_size) == NULL ? SMP_NO_IMAGE : SMP_OK;

    status = status == SMP_OK ? smp_list(h, images, LISTED, &count) : status;
    status = status == SMP_OK ? smp_upload(h, number, image, size) : status;
    status = status == SMP_OK ? smp_verify(h, number, image, size) : status;
    return status == SMP_OK && reset ? smp_reset(h) : status;
}

const char *smp_status_text(smp_status status)
{
    static const char *const TEXTS[] = {
        [SMP_OK] = "ok",
        [SMP_NO_ANSWER] = "no answer",
        [SMP_REFUSED] = "refused",
        [SMP_BROKEN] = "an answer that makes no sense",
        [SMP_STUCK] = "the board asks for the same again and again",
        [SMP_TOO_SMALL] = "the tx buffer is too small",
        [SMP_APPLICATION] = "the application answers, the board is not in recovery",
        [SMP_NO_IMAGE] = "this is no signed image",
        [SMP_NOT_LISTED] = "the board does not list the image",
        [SMP_NO_HASH] = "the board's list has no hashes",
    };

    return (size_t)status < sizeof TEXTS / sizeof *TEXTS ? TEXTS[status] : "?";
}
