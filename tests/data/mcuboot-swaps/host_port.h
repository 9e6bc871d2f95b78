/* What MCUboot's bootutil needs of its port, for a flash in memory: one image, two slots, no signature. */

#ifndef HOST_PORT_H
#define HOST_PORT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The nRF5340's flash (product specification, NVMC). */
#define HOST_PAGE 4096
#define HOST_WRITE_BLOCK 4
#define HOST_ERASED 0xff

/* mcuboot_config.h; the way of updating and MCUBOOT_MAX_IMG_SECTORS come from the command line. */
#define MCUBOOT_IMAGE_NUMBER 1
#define MCUBOOT_VALIDATE_PRIMARY_SLOT
#define MCUBOOT_USE_FLASH_AREA_GET_SECTORS
#define MCUBOOT_HAVE_LOGGING 1
#define MCUBOOT_FIH_PROFILE_OFF
#define MCUBOOT_WATCHDOG_FEED() ((void)0)

/* mcuboot_logging.h: as Zephyr's minimal log prints it. */
void host_print(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define MCUBOOT_LOG_MODULE_DECLARE(module)
#define MCUBOOT_LOG_MODULE_REGISTER(module)
#define MCUBOOT_LOG_ERR(format, ...) host_print("E: " format "\n", ##__VA_ARGS__)
#define MCUBOOT_LOG_WRN(format, ...) host_print("W: " format "\n", ##__VA_ARGS__)
#define MCUBOOT_LOG_INF(format, ...) host_print("I: " format "\n", ##__VA_ARGS__)
#define MCUBOOT_LOG_DBG(format, ...) ((void)0)

/* sysflash.h: the numbers are Zephyr's, but any would do. */
#define FLASH_AREA_IMAGE_PRIMARY(image) 1
#define FLASH_AREA_IMAGE_SECONDARY(image) 2
#define FLASH_AREA_IMAGE_SCRATCH 3

/* flash_map_backend.h. */
struct flash_area {
    uint8_t fa_id;
    uint8_t fa_device_id;
    uint32_t fa_off;
    uint32_t fa_size;
};

struct flash_sector {
    uint32_t fs_off;
    uint32_t fs_size;
};

#define flash_area_get_id(area) ((area)->fa_id)
#define flash_area_get_device_id(area) ((area)->fa_device_id)
#define flash_area_get_off(area) ((area)->fa_off)
#define flash_area_get_size(area) ((area)->fa_size)
#define flash_sector_get_off(sector) ((sector)->fs_off)
#define flash_sector_get_size(sector) ((sector)->fs_size)
#define flash_area_align(area) HOST_WRITE_BLOCK
#define flash_area_erased_val(area) HOST_ERASED
#define flash_area_close(area) ((void)(area))

int flash_area_open(uint8_t id, const struct flash_area **area);
int flash_area_read(const struct flash_area *area, uint32_t offset, void *to, uint32_t size);
int flash_area_write(const struct flash_area *area, uint32_t offset, const void *from, uint32_t size);
int flash_area_erase(const struct flash_area *area, uint32_t offset, uint32_t size);
int flash_area_get_sector(const struct flash_area *area, uint32_t offset, struct flash_sector *sector);
int flash_area_get_sectors(int id, uint32_t *count, struct flash_sector *sectors);
int flash_area_id_from_multi_image_slot(int image, int slot);
int flash_area_id_from_image_slot(int slot);

#endif
