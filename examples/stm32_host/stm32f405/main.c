/* The host on an STM32F405: USART1 (PA9 TX, PA10 RX) to the target, USART2 (PA2 TX) for a log, the image in flash.
 *
 * The chip runs on its internal oscillator of 16 MHz, as it comes out of reset; at 115200 baud that is 0.1 % off, and
 * the oscillator 1 % (data sheet). For faster rates and long-lived products, use a crystal.
 *
 * Registers: reference manual RM0090, chapters "RCC", "GPIO", "USART"; ARMv7-M for SysTick and NVIC.
 */
#include "smp_host.h"

#ifndef SYSTICK_HZ
#define SYSTICK_HZ 16000000u
#endif
#ifndef BAUD
#define BAUD 115200u
#endif
#ifndef RESET
#define RESET 1 /* start the image at the end */
#endif
#ifndef NUMBER
#define NUMBER 0 /* the application */
#endif
#define USART_HZ 16000000u

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define RCC_AHB1ENR REGISTER(0x40023830u)
#define RCC_APB1ENR REGISTER(0x40023840u)
#define RCC_APB2ENR REGISTER(0x40023844u)
#define GPIOA_MODER REGISTER(0x40020000u)
#define GPIOA_PUPDR REGISTER(0x4002000cu)
#define GPIOA_AFRL REGISTER(0x40020020u)
#define GPIOA_AFRH REGISTER(0x40020024u)
#define SYST_CSR REGISTER(0xe000e010u)
#define SYST_RVR REGISTER(0xe000e014u)
#define SYST_CVR REGISTER(0xe000e018u)
#define NVIC_ISER1 REGISTER(0xe000e104u)

typedef struct {
    volatile uint32_t sr, dr, brr, cr1;
} usart;
#define USART1 ((usart *)0x40011000u)
#define USART2 ((usart *)0x40004400u)
enum { SR_RXNE = 1 << 5, SR_TXE = 1 << 7 };
enum { CR1_RE = 1 << 2, CR1_TE = 1 << 3, CR1_RXNEIE = 1 << 5, CR1_UE = 1 << 13 };

extern const uint8_t image_start[], image_end[];

void systick_handler(void);
void usart1_handler(void);
int main(void);

static volatile uint32_t milliseconds;

/* Filled by the interrupt, emptied by the host: responses may come while the next request is being sent. The indexes
 * are bytes and run through all 256 places. */
static volatile uint8_t received[256];
static volatile uint8_t received_to, received_from;

void systick_handler(void)
{
    milliseconds++;
}

void usart1_handler(void)
{
    if (USART1->sr & SR_RXNE) {
        received[received_to++] = (uint8_t)USART1->dr;
    } else {
        (void)USART1->dr; /* an overrun: status, then data, clears it */
    }
}

static uint32_t now_ms(void *context)
{
    (void)context;
    return milliseconds;
}

static void usart_write(void *context, const uint8_t *data, size_t size)
{
    usart *to = context;

    for (; size > 0; size--, data++) {
        while (!(to->sr & SR_TXE)) {
        }
        to->dr = *data;
    }
}

static int usart1_read(void *context)
{
    (void)context;
    if (received_from == received_to) {
        __asm__ volatile("wfi"); /* until a byte comes; SysTick ends it within a millisecond */
    }
    return received_from == received_to ? -1 : received[received_from++];
}

static void log_text(const char *text)
{
    size_t size = 0;

    while (text[size] != '\0') {
        size++;
    }
    usart_write(USART2, (const uint8_t *)text, size);
}

static void log_number(const char *before, uint32_t value)
{
    char digits[11];
    char *at = digits + sizeof digits - 1;

    *at = '\0';
    do {
        *--at = (char)('0' + value % 10);
    } while ((value /= 10) > 0);
    log_text(before);
    log_text(at);
}

static void start_peripherals(void)
{
    RCC_AHB1ENR |= 1u;       /* GPIOA */
    RCC_APB1ENR |= 1u << 17; /* USART2 */
    RCC_APB2ENR |= 1u << 4;  /* USART1 */
    GPIOA_AFRL |= 7u << 8;   /* PA2 is USART2's TX, alternate function 7 */
    GPIOA_AFRH |= 7u << 4 | 7u << 8;
    GPIOA_PUPDR |= 1u << 20; /* RX idles high also with nothing connected */
    GPIOA_MODER |= 2u << 4 | 2u << 18 | 2u << 20;

    USART1->brr = (USART_HZ + BAUD / 2) / BAUD; /* sampled 16 times a bit */
    USART1->cr1 = CR1_UE | CR1_TE | CR1_RE | CR1_RXNEIE;
    USART2->brr = (USART_HZ + 115200u / 2) / 115200u;
    USART2->cr1 = CR1_UE | CR1_TE;
    NVIC_ISER1 = 1u << (37 - 32); /* USART1 */

    SYST_RVR = SYSTICK_HZ / 1000u - 1u;
    SYST_CVR = 0;
    SYST_CSR = 7; /* the core's clock, interrupt, on */
}

int main(void)
{
    static uint8_t tx[SMP_TX_SIZE], rx[SMP_RX_SIZE];
    static smp_host host;
    static const smp_port port = {now_ms, usart_write, usart1_read, USART1};
    size_t size = (size_t)(image_end - image_start);
    smp_status status;

    start_peripherals();
    log_number("image: ", (uint32_t)size);
    log_text(" bytes\n");
    smp_host_init(&host, &port, BAUD, tx, sizeof tx, rx, sizeof rx);
    status = smp_update(&host, NUMBER, image_start, size, RESET);
    log_number("uploaded: ", host.off);
    log_number(", repeated: ", host.repeats);
    log_number(", rc: ", host.rc);
    log_text("\nupdate: ");
    log_text(smp_status_text(status));
    log_text("\n");
    for (;;) {
        __asm__ volatile("wfi");
    }
}
