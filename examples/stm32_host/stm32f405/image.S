/* The signed image for the target, in this chip's flash. */
    .section .image, "a"
    .balign 4
    .global image_start, image_end
image_start:
    .incbin IMAGE
image_end:
