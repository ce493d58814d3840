/* SPDX-License-Identifier: MIT */
/*
 * pcapjit: a worker that compiles packet filters to machine code, and may not make
 * executable memory.
 *
 * The order is that of any such worker. What needs the world outside comes first:
 * the capture, the expression (whose names may have to be resolved), the broker.
 * Then the process locks itself down for good, and only then gets its code: from the
 * broker, since nothing else can give it any.
 */
#include "attempts.h"
#include "bpf_jit.h"
#include "comparison.h"
#include "options.h"
#include "packets.h"

#include <jitclient.h>
#include <pcap/pcap.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct worker {
    const struct options *options;
    struct packets packets;
    struct bpf_program program;
    jitc_client *client; /* NULL with --no-broker */
    uint8_t *code;       /* the translation; what runs is a copy in `span` */
    size_t code_size;
    jitc_span span;
};

/* ---- Messages --------------------------------------------------------------- */

/* Says what went wrong; the value is what the caller returns. */
__attribute__((format(printf, 1, 2))) static bool fail(const char *format, ...)
{
    va_list arguments;

    fputs("pcapjit: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return false;
}

static bool fail_client(const char *what, int status)
{
    const char *detail = jitc_error_detail();

    return fail("%s: %s%s%s", what, jitc_strerror(status), *detail ? ": " : "", detail);
}

/* ---- Setting up --------------------------------------------------------------- */

static bool compile(struct worker *worker, pcap_t *capture)
{
    const struct options *options = worker->options;

    if (pcap_compile(capture, &worker->program, options->expression, options->is_optimized,
                     PCAP_NETMASK_UNKNOWN) != 0)
        return fail("%s", pcap_geterr(capture));
    if (!bpf_validate(worker->program.bf_insns, (int)worker->program.bf_len))
        return fail("libpcap made a filter that it does not accept itself");
    return true;
}

static bool load(struct worker *worker, pcap_t *capture)
{
    const char *link_type = pcap_datalink_val_to_name(pcap_datalink(capture));
    int status = packets_init(&worker->packets, capture);

    if (status < 0)
        return fail("%s: %s", worker->options->file, strerror(-status));
    if (status == PACKETS_E_CAPTURE)
        return fail("%s: %s", worker->options->file, pcap_geterr(capture));
    printf("capture: %zu packets, %zu bytes, link type %s\n", worker->packets.count, worker->packets.size,
           link_type ? link_type : "unknown");
    return true;
}

static bool open_capture(struct worker *worker)
{
    char error[PCAP_ERRBUF_SIZE];
    pcap_t *capture = pcap_open_offline(worker->options->file, error);
    bool succeeds;

    if (!capture)
        return fail("%s", error);
    succeeds = compile(worker, capture) && load(worker, capture);
    pcap_close(capture);
    return succeeds;
}

static bool translate(struct worker *worker)
{
    const struct bpf_program *program = &worker->program;
    size_t size = 0;
    size_t culprit = 0;
    int status =
        bpf_jit_translate(BPF_JIT_HOST, program->bf_insns, program->bf_len, NULL, 0, &size, &culprit);

    if (status == BPF_JIT_E_TARGET)
        return fail("%s: only for x86-64 and aarch64", bpf_jit_strerror(status));
    if (status != BPF_JIT_E_CAPACITY)
        return fail("instruction %zu of the filter: %s", culprit, bpf_jit_strerror(status));

    worker->code = malloc(size);
    if (!worker->code)
        return fail("out of memory");
    status = bpf_jit_translate(BPF_JIT_HOST, program->bf_insns, program->bf_len, worker->code, size,
                               &worker->code_size, &culprit);
    if (status != BPF_JIT_OK)
        return fail("%s", bpf_jit_strerror(status));
    printf("filter: %u BPF instructions, %zu bytes of %s code\n", program->bf_len, worker->code_size,
           bpf_jit_target_name(BPF_JIT_HOST));
    return true;
}

static bool connect_broker(struct worker *worker)
{
    const struct options *options = worker->options;
    jitc_options wishes;
    jitc_info info = {.struct_size = sizeof info};
    int status;

    if (options->broker == OPTIONS_BROKER_NONE)
        return true;
    jitc_options_init(&wishes);
    wishes.socket = options->socket;
    wishes.write_mode = options->wants_direct ? JITC_WRITE_DIRECT : JITC_WRITE_THROUGH;
    if (options->broker == OPTIONS_BROKER_PRIVATE)
        status = jitc_spawn(&worker->client, &wishes);
    else
        status = jitc_connect(&worker->client, &wishes);
    if (status != JITC_OK)
        return fail_client("no broker", status);

    status = jitc_describe(worker->client, &info);
    if (status != JITC_OK)
        return fail_client("broker", status);
    printf("broker: %.*s, session %llu\n", (int)sizeof info.broker, info.broker,
           (unsigned long long)info.session);
    printf("write mode: %s\n", info.write_mode == JITC_WRITE_DIRECT ? "direct" : "through");
    if (info.write_mode == JITC_WRITE_DIRECT)
        printf("note: the policy gives this process a writable view of its code\n");
    return true;
}

/* ---- Locking down --------------------------------------------------------------- */

static const struct {
    uint32_t flag;
    const char *name;
} fences[] = {
    {JITC_LOCKDOWN_NO_NEW_PRIVS, "no_new_privs"}, {JITC_LOCKDOWN_MDWE, "mdwe"},
    {JITC_LOCKDOWN_SECCOMP, "seccomp"},           {JITC_LOCKDOWN_SEAL_ARENAS, "seal_arenas"},
    {JITC_LOCKDOWN_LANDLOCK, "landlock"},
};

static void print_fences(const char *title, uint32_t flags)
{
    printf("%s:", title);
    for (size_t i = 0; i < sizeof fences / sizeof fences[0]; i++) {
        if (flags & fences[i].flag)
            printf(" %s", fences[i].name);
    }
    printf("%s\n", flags ? "" : " nothing");
}

/* What is missing does not end the run: the attempts show whether it matters. */
static void lock_down(void)
{
    uint32_t missing = jitc_lockdown(0);

    print_fences("lockdown applied", JITC_LOCKDOWN_ALL & ~missing);
    print_fences("lockdown not applied", missing);
    if (missing)
        printf("lockdown reason: %s\n", jitc_error_detail());
}

/* ---- Running -------------------------------------------------------------------- */

static bool write_code(struct worker *worker)
{
    int status = jitc_alloc(worker->client, &worker->span, worker->code_size);

    if (status != JITC_OK)
        return fail_client("allocating code memory", status);
    status =
        jitc_write(worker->client, &worker->span, 0, worker->code, worker->code_size, JITC_WRITE_DEFAULT);
    if (status != JITC_OK)
        return fail_client("writing code", status);
    status = jitc_seal(worker->client, &worker->span);
    if (status != JITC_OK)
        return fail_client("sealing code", status);
    return true;
}

static void print_time(const char *who, uint64_t ns, size_t count)
{
    if (count)
        printf("%s: %.2f ns/packet\n", who, (double)ns / (double)count);
    else
        printf("%s: no packets\n", who);
}

static bool filter_packets(struct worker *worker)
{
    struct comparison comparison;
    bpf_jit_function function;
    void *entry = jitc_span_rx(&worker->span);

    memcpy(&function, &entry, sizeof function);
    if (comparison_run(&comparison, &worker->packets, &worker->program, function, worker->options->rounds) <
        0)
        return fail("out of memory");

    printf("packets: %zu\n", worker->packets.count);
    printf("matches: %zu\n", comparison.matches);
    printf("mismatches: %zu\n", comparison.mismatches);
    print_time("jit", comparison.code_ns, worker->packets.count);
    print_time("interpreter", comparison.interpreter_ns, worker->packets.count);
    if (worker->packets.count && comparison.code_ns)
        printf("ratio: %.2f\n", (double)comparison.interpreter_ns / (double)comparison.code_ns);
    if (comparison.mismatches)
        return fail("MISMATCH: packet %zu: the code says %#x, libpcap %#x", comparison.mismatch_first + 1,
                    comparison.mismatch_code, comparison.mismatch_libpcap);
    return true;
}

static bool try_to_write(struct worker *worker)
{
    struct attempts attempts;
    bool is_unchanged;

    attempts_run(&attempts, jitc_span_rx(&worker->span), stdout);
    is_unchanged = memcmp(jitc_span_rx(&worker->span), worker->code, worker->code_size) == 0;
    printf("attempts: %u tried, %u refused, code %s\n", attempts.tried, attempts.refused,
           is_unchanged ? "unchanged" : "CHANGED");
    if (attempts.refused != attempts.tried || !is_unchanged)
        return fail("THE LOCKDOWN DOES NOT HOLD: %u of %u attempts were not refused",
                    attempts.tried - attempts.refused, attempts.tried);
    return true;
}

static bool run_without_broker(const struct worker *worker)
{
    const char *step;
    int r = attempts_plain_code(worker->code, worker->code_size, &step);

    if (r == 0)
        return fail("THE LOCKDOWN DOES NOT HOLD: plain memory was made executable");
    return fail("without a broker there is no code to run: %s: %s (%s); a process that is locked down "
                "cannot make memory executable: start jitbrokerd, or use --private-broker",
                step, strerror(-r), attempts_errno_name(-r));
}

/* ---- All of it -------------------------------------------------------------------- */

static bool set_up(struct worker *worker)
{
    return open_capture(worker) && translate(worker) && connect_broker(worker);
}

static bool run(struct worker *worker)
{
    lock_down();
    if (!worker->client)
        return run_without_broker(worker);
    return write_code(worker) && filter_packets(worker) && try_to_write(worker);
}

static void worker_deinit(struct worker *worker)
{
    worker->client = jitc_close(worker->client);
    free(worker->code);
    pcap_freecode(&worker->program);
    packets_deinit(&worker->packets);
}

int main(int argc, char **argv)
{
    struct options options;
    struct worker worker = {.options = &options};
    int status = options_parse(&options, argc, argv);
    bool succeeds;

    if (status == OPTIONS_E_USAGE)
        return 2;
    succeeds = status == OPTIONS_DONE || (set_up(&worker) && run(&worker));
    worker_deinit(&worker);
    if (fflush(stdout) != 0 || ferror(stdout))
        succeeds = fail("writing to stdout failed");
    return succeeds ? EXIT_SUCCESS : EXIT_FAILURE;
}
