/*
 * MCUboot's bootutil over a flash in memory, as a shared library for record_host.py.
 *
 * Flash behaves as the nRF5340's: pages are erased, words are written once after that. Before any erase or write a boot
 * can be cut off, as a reset would; flash keeps what it holds, and the next boot finds it. What is longer than a
 * trailer's fields is written in one go, the rest word by word.
 */

#include <openssl/sha.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host_port.h"
#include "bootutil/bootutil.h"
#include "bootutil/bootutil_public.h"
#include "bootutil/image.h"
#include "bootutil_priv.h"

enum { SLOTS = 2, MAX_SLOT = 64 * HOST_PAGE, AT_ONCE = 64, LOG_SIZE = 1 << 16 };
enum ended { BOOTED, NOTHING_BOOTS, CUT_OFF, PANIC };

static uint8_t contents[SLOTS][MAX_SLOT];
static struct flash_area areas[SLOTS];
static char log_text[LOG_SIZE];
static size_t log_used;
static long operations, rewritten, cut_before;
static jmp_buf reset;

/* What record_host.py calls. */

void host_setup(uint32_t primary, uint32_t secondary)
{
    const uint32_t sizes[SLOTS] = {primary, secondary};

    for (int slot = 0; slot < SLOTS; slot++) {
        areas[slot] = (struct flash_area){.fa_id = slot + 1, .fa_off = slot * MAX_SLOT, .fa_size = sizes[slot]};
    }
    memset(contents, HOST_ERASED, sizeof contents);
}

uint8_t *host_slot(int slot)
{
    return contents[slot];
}

const char *host_log(void)
{
    return log_text;
}

long host_operations(void)
{
    return operations;
}

long host_rewritten(void)
{
    return rewritten;
}

int host_mark(int permanent)
{
    cut_before = -1;
    return boot_set_pending_multi(0, permanent);
}

int host_confirm(void)
{
    cut_before = -1;
    return boot_set_confirmed_multi(0);
}

/* One boot, cut off before erase or write number `cut`, if that is not negative. */
int host_boot(long cut)
{
    struct boot_rsp response;
    int ended;

    log_text[log_used = 0] = '\0';
    operations = 0;
    cut_before = cut;
    boot_state_clear(NULL);
    ended = setjmp(reset);
    if (ended != 0) {
        return ended;
    }
    return context_boot_go(boot_get_loader_state(), &response) == FIH_SUCCESS ? BOOTED : NOTHING_BOOTS;
}

/* What bootutil calls. */

void host_print(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_used += vsnprintf(log_text + log_used, LOG_SIZE - log_used, format, arguments);
    va_end(arguments);
    if (log_used >= LOG_SIZE) {
        abort();
    }
}

/* The C library's, called by assert(). */
void __assert_fail(const char *what, const char *file, unsigned int line, const char *function)
{
    (void)what, (void)file, (void)line, (void)function;
    longjmp(reset, PANIC);
}

static void begin_operation(void)
{
    if (operations == cut_before) {
        longjmp(reset, CUT_OFF);
    }
    operations++;
}

static bool lies_in(const struct flash_area *area, uint32_t offset, uint32_t size)
{
    return offset <= area->fa_size && size <= area->fa_size - offset;
}

static uint8_t *at(const struct flash_area *area, uint32_t offset)
{
    return contents[area->fa_id - 1] + offset;
}

int flash_area_open(uint8_t id, const struct flash_area **area)
{
    *area = &areas[id - 1];
    return 0;
}

int flash_area_read(const struct flash_area *area, uint32_t offset, void *to, uint32_t size)
{
    if (!lies_in(area, offset, size)) {
        return -1;
    }
    memcpy(to, at(area, offset), size);
    return 0;
}

int flash_area_write(const struct flash_area *area, uint32_t offset, const void *from, uint32_t size)
{
    const uint8_t *data = from;
    const uint32_t step = size > AT_ONCE ? size : HOST_WRITE_BLOCK;

    if (!lies_in(area, offset, size) || offset % HOST_WRITE_BLOCK != 0 || size % HOST_WRITE_BLOCK != 0) {
        return -1;
    }
    for (uint32_t done = 0; done < size; done += step) {
        begin_operation();
        for (uint32_t byte = done; byte < done + step; byte++) {
            rewritten += *at(area, offset + byte) != HOST_ERASED;
            *at(area, offset + byte) &= data[byte];
        }
    }
    return 0;
}

int flash_area_erase(const struct flash_area *area, uint32_t offset, uint32_t size)
{
    if (!lies_in(area, offset, size) || offset % HOST_PAGE != 0 || size % HOST_PAGE != 0) {
        return -1;
    }
    for (uint32_t done = 0; done < size; done += HOST_PAGE) {
        begin_operation();
        memset(at(area, offset + done), HOST_ERASED, HOST_PAGE);
    }
    return 0;
}

int flash_area_get_sector(const struct flash_area *area, uint32_t offset, struct flash_sector *sector)
{
    if (offset >= area->fa_size) {
        return -1;
    }
    *sector = (struct flash_sector){.fs_off = offset - offset % HOST_PAGE, .fs_size = HOST_PAGE};
    return 0;
}

int flash_area_get_sectors(int id, uint32_t *count, struct flash_sector *sectors)
{
    const uint32_t pages = areas[id - 1].fa_size / HOST_PAGE;

    if (pages > *count) {
        return -1;
    }
    for (uint32_t page = 0; page < pages; page++) {
        sectors[page] = (struct flash_sector){.fs_off = page * HOST_PAGE, .fs_size = HOST_PAGE};
    }
    *count = pages;
    return 0;
}

int flash_area_id_from_multi_image_slot(int image, int slot)
{
    (void)image;
    return slot + 1;
}

int flash_area_id_from_image_slot(int slot)
{
    return slot + 1;
}

/* Stands for image_validate.c: the first hash TLV is right, and the image with its TLVs is not too large for `area`. */
fih_ret bootutil_img_validate(struct boot_loader_state *state, struct image_header *header,
                              const struct flash_area *area, uint8_t *buffer, uint32_t buffer_size, uint8_t *seed,
                              int seed_size, uint8_t *hash)
{
    const uint32_t hashed = BOOT_TLV_OFF(header) + header->ih_protect_tlv_size;
    uint32_t start = 0, offset, end;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    struct image_tlv_info info;
    struct image_tlv tlv;

    (void)buffer, (void)buffer_size, (void)seed, (void)seed_size, (void)hash;
#ifdef MCUBOOT_SWAP_USING_OFFSET
    start = boot_get_state_secondary_offset(state, area);
#endif
    offset = start + hashed;
    if (flash_area_read(area, offset, &info, sizeof info) != 0 || info.it_magic != IMAGE_TLV_INFO_MAGIC ||
        hashed + info.it_tlv_tot > bootutil_max_image_size(state, area)) {
        return FIH_FAILURE;
    }
    SHA256(at(area, start), hashed, digest);
    end = offset + info.it_tlv_tot;
    for (offset += sizeof info; offset < end; offset += sizeof tlv + tlv.it_len) {
        if (flash_area_read(area, offset, &tlv, sizeof tlv) != 0) {
            return FIH_FAILURE;
        }
        if (tlv.it_type == IMAGE_TLV_SHA256 && tlv.it_len == sizeof digest) {
            return memcmp(at(area, offset + sizeof tlv), digest, sizeof digest) == 0 ? FIH_SUCCESS : FIH_FAILURE;
        }
    }
    return FIH_FAILURE;
}
