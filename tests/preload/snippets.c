/* SPDX-License-Identifier: MIT */
#include "tests/preload/snippets.h"

/* RFLAGS that instructions leave defined: O, S, Z, A, P, C; D is always one of them. */
#define ALL 0xCD5u
#define LOGIC 0xCC5u /* and, or, xor: not A */
#define SHIFT 0x4C5u /* by more than one: neither A nor O */
#define TURN 0x4D5u  /* rotations by more than one: not O */
#define BIT 0x441u   /* bts and kin: C alone; Z is left as it was */

/* Name, instructions, defined flags, needs. rdi: target; rsi: source; rax, rdx, rbx: values; rcx: 24. */
#define SNIPPETS(X)                                                                                          \
    X(inc_b, "incb (%rdi)", ALL, 0)                                                                          \
    X(inc_w, "incw (%rdi)", ALL, 0)                                                                          \
    X(inc_l, "incl (%rdi)", ALL, 0)                                                                          \
    X(inc_q, "incq (%rdi)", ALL, 0)                                                                          \
    X(dec_l, "decl 8(%rdi)", ALL, 0)                                                                         \
    X(neg_q, "negq (%rdi)", ALL, 0)                                                                          \
    X(not_w, "notw (%rdi)", ALL, 0)                                                                          \
    X(mov_b, "movb %al, (%rdi)", ALL, 0)                                                                     \
    X(mov_high_b, "movb %ah, (%rdi)", ALL, 0)                                                                \
    X(mov_w, "movw %ax, (%rdi)", ALL, 0)                                                                     \
    X(mov_l, "movl %eax, (%rdi)", ALL, 0)                                                                    \
    X(mov_q, "movq %rdx, (%rdi)", ALL, 0)                                                                    \
    X(mov_immediate_b, "movb $0x5A, 3(%rdi)", ALL, 0)                                                        \
    X(mov_immediate_w, "movw $0x1234, (%rdi)", ALL, 0)                                                       \
    X(mov_immediate_l, "movl $0x12345678, (%rdi)", ALL, 0)                                                   \
    X(mov_immediate_q, "movq $-5, (%rdi)", ALL, 0)                                                           \
    X(mov_index, "movl %eax, 16(%rdi,%rcx,2)", ALL, 0)                                                       \
    X(mov_high_registers, "movq %rdi, %r8\n movq %rdx, %r9\n movq %r9, (%r8)", ALL, 0)                       \
    X(mov_segment, "movw %ds, (%rdi)", ALL, 0)                                                               \
    X(movnti, "movntiq %rax, (%rdi)", ALL, 0)                                                                \
    X(add_l, "addl %eax, (%rdi)", ALL, 0)                                                                    \
    X(add_immediate, "addl $0x11111111, (%rdi)", ALL, 0)                                                     \
    X(adc_q, "stc\n adcq %rax, (%rdi)", ALL, 0)                                                              \
    X(sbb_b, "stc\n sbbb %dl, (%rdi)", ALL, 0)                                                               \
    X(sub_w, "subw $7, (%rdi)", ALL, 0)                                                                      \
    X(or_l, "orl %eax, (%rdi)", LOGIC, 0)                                                                    \
    X(and_q, "andq %rdx, (%rdi)", LOGIC, 0)                                                                  \
    X(xor_b, "xorb $0x55, (%rdi)", LOGIC, 0)                                                                 \
    X(shl_l, "shll $3, (%rdi)", SHIFT, 0)                                                                    \
    X(sar_q, "sarq %cl, (%rdi)", SHIFT, 0)                                                                   \
    X(shr_one, "shrw (%rdi)", LOGIC, 0)                                                                      \
    X(rol_l, "roll $5, (%rdi)", TURN, 0)                                                                     \
    X(shld, "shldq $9, %rax, (%rdi)", SHIFT, 0)                                                              \
    X(bts, "btsl $11, (%rdi)", BIT, 0)                                                                       \
    X(btc_far, "btcl %ecx, (%rdi)", BIT, 0)                                                                  \
    X(setcc, "stc\n setc (%rdi)\n setnc 1(%rdi)", ALL, 0)                                                    \
    X(xchg_l, "xchgl %eax, (%rdi)", ALL, 0)                                                                  \
    X(xchg_b, "xchgb %ah, (%rdi)", ALL, 0)                                                                   \
    X(xadd, "xaddq %rdx, (%rdi)", ALL, 0)                                                                    \
    X(lock_inc, "lock incl (%rdi)", ALL, 0)                                                                  \
    X(lock_xadd, "lock xaddl %eax, (%rdi)", ALL, 0)                                                          \
    X(lock_or, "lock orq $1, (%rdi)", LOGIC, 0)                                                              \
    X(lock_btr, "lock btrl $4, (%rdi)", BIT, 0)                                                              \
    X(cmpxchg_same, "movl (%rdi), %eax\n lock cmpxchgl %edx, (%rdi)", ALL, 0)                                \
    X(cmpxchg_other, "lock cmpxchgq %rdx, (%rdi)", ALL, 0)                                                   \
    X(cmpxchg_b, "movb (%rdi), %al\n cmpxchgb %dl, (%rdi)", ALL, 0)                                          \
    X(cmpxchg8b, "movl (%rdi), %eax\n movl 4(%rdi), %edx\n lock cmpxchg8b (%rdi)", ALL, 0)                   \
    X(cmpxchg16b, "movq (%rdi), %rax\n movq 8(%rdi), %rdx\n lock cmpxchg16b (%rdi)", ALL, SNIPPET_ALIGNED)   \
    X(cmpxchg16b_other, "lock cmpxchg16b (%rdi)", ALL, SNIPPET_ALIGNED)                                      \
    X(stos_b, "stosb", ALL, 0)                                                                               \
    X(stos_q, "stosq", ALL, 0)                                                                               \
    X(movs_l, "movsl", ALL, 0)                                                                               \
    X(rep_stos_b, "rep stosb", ALL, 0)                                                                       \
    X(rep_stos_w, "rep stosw", ALL, 0)                                                                       \
    X(rep_stos_l, "rep stosl", ALL, 0)                                                                       \
    X(rep_stos_q, "rep stosq", ALL, 0)                                                                       \
    X(rep_stos_down, "std\n rep stosb\n cld", ALL, 0)                                                        \
    X(rep_stos_none, "xorl %ecx, %ecx\n rep stosb", LOGIC, 0)                                                \
    X(rep_movs_b, "rep movsb", ALL, 0)                                                                       \
    X(rep_movs_w, "rep movsw", ALL, 0)                                                                       \
    X(rep_movs_q, "rep movsq", ALL, 0)                                                                       \
    X(rep_movs_onto_itself, "leaq 1(%rdi), %rsi\n rep movsb", ALL, 0)                                        \
    X(push_from, "pushq (%rsi)\n popq (%rdi)", ALL, 0)                                                       \
    X(pop_16, "pushw %ax\n popw 2(%rdi)", ALL, 0)                                                            \
    X(movups, "movups %xmm0, (%rdi)", ALL, 0)                                                                \
    X(movaps, "movaps %xmm0, (%rdi)", ALL, SNIPPET_ALIGNED)                                                  \
    X(movupd, "movupd %xmm0, 16(%rdi)", ALL, 0)                                                              \
    X(movdqu, "movdqu %xmm0, (%rdi)", ALL, 0)                                                                \
    X(movdqa, "movdqa %xmm0, (%rdi)", ALL, SNIPPET_ALIGNED)                                                  \
    X(movntdq, "movntdq %xmm0, (%rdi)", ALL, SNIPPET_ALIGNED)                                                \
    X(movntps, "movntps %xmm0, (%rdi)", ALL, SNIPPET_ALIGNED)                                                \
    X(movss, "movss %xmm0, (%rdi)", ALL, 0)                                                                  \
    X(movsd, "movsd %xmm0, (%rdi)", ALL, 0)                                                                  \
    X(movlps, "movlps %xmm0, (%rdi)", ALL, 0)                                                                \
    X(movhps, "movhps %xmm0, 8(%rdi)", ALL, 0)                                                               \
    X(movd, "movd %xmm0, (%rdi)", ALL, 0)                                                                    \
    X(movq_xmm, "movq %xmm0, (%rdi)", ALL, 0)                                                                \
    X(movups_high, "movups (%rsi), %xmm9\n movups %xmm9, (%rdi)", ALL, 0)                                    \
    X(maskmovdqu, "movups (%rsi), %xmm1\n maskmovdqu %xmm1, %xmm0", ALL, 0)                                  \
    X(pextrb, "pextrb $3, %xmm0, (%rdi)", ALL, SNIPPET_SSE41)                                                \
    X(pextrq, "pextrq $1, %xmm0, (%rdi)", ALL, SNIPPET_SSE41)                                                \
    X(extractps, "extractps $2, %xmm0, (%rdi)", ALL, SNIPPET_SSE41)                                          \
    X(fst, "fld1\n fstl (%rdi)\n fstpt 16(%rdi)", ALL, 0)                                                    \
    X(fist, "fldpi\n fistpll (%rdi)", ALL, 0)                                                                \
    X(fnstcw, "fnstcw (%rdi)", ALL, 0)                                                                       \
    X(stmxcsr, "stmxcsr (%rdi)", ALL, 0)                                                                     \
    X(vmovups, "vmovups (%rsi), %ymm0\n vmovups %ymm0, (%rdi)\n vzeroupper", ALL, SNIPPET_AVX)               \
    X(vmovaps, "vmovaps (%rsi), %ymm0\n vmovaps %ymm0, (%rdi)\n vzeroupper", ALL,                            \
      SNIPPET_AVX | SNIPPET_ALIGNED)                                                                         \
    X(vmovdqu_16, "vmovdqu %xmm0, (%rdi)", ALL, SNIPPET_AVX)                                                 \
    X(vmovdqu_high, "vmovdqu (%rsi), %ymm12\n vmovdqu %ymm12, 32(%rdi)\n vzeroupper", ALL, SNIPPET_AVX)      \
    X(vmovq, "vmovq %xmm0, (%rdi)", ALL, SNIPPET_AVX)                                                        \
    X(vextractf128, "vmovups (%rsi), %ymm0\n vextractf128 $1, %ymm0, (%rdi)\n vzeroupper", ALL, SNIPPET_AVX) \
    X(vmaskmovps, "vmovups (%rsi), %ymm1\n vmaskmovps %ymm1, %ymm1, (%rdi)\n vzeroupper", ALL, SNIPPET_AVX)  \
    X(vmovdqu64, "vmovdqu64 (%rsi), %zmm0\n vmovdqu64 %zmm0, (%rdi)\n vzeroupper", ALL, SNIPPET_AVX512)

#define CODE(name, instructions, flags, needs)                                   \
    __asm__(".pushsection .text\n snippet_" #name ": " instructions "\n ret\n"   \
            "snippet_end_" #name ":\n .popsection\n");                           \
    extern const uint8_t snippet_##name[] __attribute__((visibility("hidden"))); \
    extern const uint8_t snippet_end_##name[] __attribute__((visibility("hidden")));
SNIPPETS(CODE)

#define ROW(name, instructions, flags, needs) {#name, snippet_##name, snippet_end_##name, flags, needs},
const struct snippet snippets[] = {SNIPPETS(ROW)};
const size_t snippets_count = sizeof snippets / sizeof snippets[0];

bool snippet_fits(const struct snippet *snippet)
{
    if ((snippet->needs & SNIPPET_SSE41) != 0 && !__builtin_cpu_supports("sse4.1"))
        return false;
    if ((snippet->needs & SNIPPET_AVX) != 0 && !__builtin_cpu_supports("avx"))
        return false;
    return (snippet->needs & SNIPPET_AVX512) == 0 || __builtin_cpu_supports("avx512f");
}

/* snippet_run(rdi: code, rsi: registers), by the layout of struct registers. */
__asm__(".pushsection .text\n"
        ".globl snippet_run\n"
        ".hidden snippet_run\n"
        "snippet_run:\n"
        "push %rbx\n push %rbp\n push %r12\n"
        "mov %rdi, %rbp\n mov %rsi, %r12\n"
        "mov 0(%r12), %rax\n mov 8(%r12), %rcx\n mov 16(%r12), %rdx\n mov 24(%r12), %rbx\n"
        "mov 32(%r12), %rsi\n mov 40(%r12), %rdi\n movups 56(%r12), %xmm0\n"
        "pushq 48(%r12)\n popfq\n"
        "call *%rbp\n"
        "pushfq\n popq 48(%r12)\n cld\n"
        "mov %rax, 0(%r12)\n mov %rcx, 8(%r12)\n mov %rdx, 16(%r12)\n mov %rbx, 24(%r12)\n"
        "mov %rsi, 32(%r12)\n mov %rdi, 40(%r12)\n movups %xmm0, 56(%r12)\n"
        "pop %r12\n pop %rbp\n pop %rbx\n"
        "ret\n"
        ".popsection\n");
