/* What happens before main: vector table, .data and .bss; and the functions that the compiler takes for granted. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;

void reset_handler(void);
void systick_handler(void);
void usart1_handler(void);
int main(void);

static void stop(void)
{
    for (;;) {
    }
}

void reset_handler(void)
{
    for (uint32_t *to = &data_start, *from = &data_load; to < &data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = &bss_start; to < &bss_end;) {
        *to++ = 0;
    }
    (void)main();
    stop();
}

typedef void (*handler)(void);

enum { SYSTEM = 16, USART1 = 37 }; /* 16 exceptions, then interrupts (RM0090, "Vector table for STM32F405") */

typedef struct {
    uint32_t *stack;
    handler exceptions[SYSTEM - 1];
    handler interrupts[USART1 + 1];
} vectors;

__attribute__((section(".vectors"), used)) static const vectors VECTORS = {
    .stack = &stack_top,
    .exceptions = {reset_handler, stop, stop, stop, stop, stop, NULL, NULL, NULL, NULL, stop, stop, NULL, stop,
                   systick_handler},
    .interrupts = {[USART1] = usart1_handler},
};

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;

    while (size-- > 0) {
        *t++ = *f++;
    }
    return to;
}

void *memset(void *to, int value, size_t size)
{
    uint8_t *t = to;

    while (size-- > 0) {
        *t++ = (uint8_t)value;
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a, *y = b;

    for (; size > 0; size--, x++, y++) {
        if (*x != *y) {
            return *x < *y ? -1 : 1;
        }
    }
    return 0;
}

size_t strlen(const char *text)
{
    size_t size = 0;

    while (text[size] != '\0') {
        size++;
    }
    return size;
}
