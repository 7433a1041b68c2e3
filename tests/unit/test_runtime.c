#include "share/base/hash.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"
#include "worker/runtime/charter.h"
#include "worker/runtime/frame.h"
#include "worker/runtime/heartbeat.h"
#include "worker/runtime/machine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct gwtf_frame sealed_frame(void) {
    struct gwtf_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.kind = GWTF_FRAME_MESSAGE;
    frame.incarnation = 7;
    frame.sequence = 3;
    frame.message.kind = GWTF_MESSAGE_DONE;
    frame.message.iteration = 12;
    gwtf_frame_seal(&frame);
    return frame;
}

static void a_sealed_frame_passes_its_check(void) {
    struct gwtf_frame frame = sealed_frame();
    CU_ASSERT_EQUAL(gwtf_frame_check(&frame, 7, 3), GWTF_OK);
}

static void a_frame_of_another_incarnation_or_sequence_is_refused(void) {
    struct gwtf_frame frame = sealed_frame();
    CU_ASSERT_EQUAL(gwtf_frame_check(&frame, 8, 3), GWTF_ERROR_CORRUPT);
    CU_ASSERT_EQUAL(gwtf_frame_check(&frame, 7, 4), GWTF_ERROR_CORRUPT);
}

static void every_flipped_byte_of_a_frame_is_noticed(void) {
    for (size_t i = 0; i < sizeof(struct gwtf_frame); i++) {
        struct gwtf_frame frame = sealed_frame();
        ((unsigned char *)&frame)[i] ^= 0x10;
        CU_ASSERT_EQUAL(gwtf_frame_check(&frame, 7, 3), GWTF_ERROR_CORRUPT);
    }
}

static void pieces_cover_a_tensor_once(void) {
    const uint64_t sizes[] = {1, GWTF_PIECE_BYTES - 1, GWTF_PIECE_BYTES, GWTF_PIECE_BYTES + 1,
                              10ull * GWTF_PIECE_BYTES + 5};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t covered = 0;
        for (uint32_t piece = 0; piece < gwtf_piece_count(sizes[i]); piece++) {
            uint64_t offset;
            uint32_t bytes;
            gwtf_piece_range(sizes[i], piece, &offset, &bytes);
            CU_ASSERT_EQUAL(offset, covered);
            CU_ASSERT(bytes > 0 && bytes <= GWTF_PIECE_BYTES);
            covered += bytes;
        }
        CU_ASSERT_EQUAL(covered, sizes[i]);
    }
}

static struct gwtf_charter make_charter(void) {
    static struct gwtf_charter_member members[3] = {{0, 0, 2, 0}, {1, 1, 0, 77}, {2, 1, 1, 0}};
    static char config[] = "run = { iterations = 3; };";
    static char topology[] = "topology = { };";
    struct gwtf_charter charter = {.self = 1,
                                   .incarnation = 99,
                                   .first_iteration = 5,
                                   .threads = 2,
                                   .members_count = 3,
                                   .members = members,
                                   .config = config,
                                   .config_bytes = sizeof config,
                                   .topology = topology,
                                   .topology_bytes = sizeof topology};
    strcpy(charter.snapshot, "runs/a/snapshots/step-000004");
    return charter;
}

static void a_charter_survives_packing(void) {
    struct gwtf_charter charter = make_charter(), read;
    void *bytes;
    size_t size_bytes;
    CU_ASSERT_EQUAL_FATAL(gwtf_charter_pack(&charter, &bytes, &size_bytes), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_charter_unpack(bytes, size_bytes, &read), GWTF_OK);
    CU_ASSERT_EQUAL(read.self, 1);
    CU_ASSERT_EQUAL(read.first_iteration, 5);
    CU_ASSERT_STRING_EQUAL(read.snapshot, charter.snapshot);
    CU_ASSERT_STRING_EQUAL(read.config, charter.config);
    CU_ASSERT_STRING_EQUAL(read.topology, charter.topology);
    CU_ASSERT_EQUAL(read.members_count, 3);
    CU_ASSERT_EQUAL(read.members[0].rank, 2);
    gwtf_charter_deinit(&read);
    free(bytes);
}

static void a_cut_or_damaged_charter_is_refused(void) {
    struct gwtf_charter charter = make_charter(), read;
    unsigned char *bytes;
    size_t size_bytes;
    CU_ASSERT_EQUAL_FATAL(gwtf_charter_pack(&charter, (void **)&bytes, &size_bytes), GWTF_OK);
    for (size_t cut = 0; cut < size_bytes; cut++)
        CU_ASSERT_EQUAL(gwtf_charter_unpack(bytes, cut, &read), GWTF_ERROR_CORRUPT);
    for (size_t i = 0; i < size_bytes; i++) {
        bytes[i] ^= 0x40;
        CU_ASSERT_EQUAL(gwtf_charter_unpack(bytes, size_bytes, &read), GWTF_ERROR_CORRUPT);
        bytes[i] ^= 0x40;
    }
    free(bytes);
}

static gwtf_heartbeat *make_heartbeat(void) {
    struct gwtf_heartbeat_config config = {.peers = 3,
                                           .interval_us = 10,
                                           .silence_least_us = 40,
                                           .silence_most_us = 100,
                                           .first_silence_us = 1000};
    gwtf_heartbeat *heartbeat = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_heartbeat_create(&config, 0, &heartbeat), GWTF_OK);
    return heartbeat;
}

static void a_peer_that_falls_silent_is_found_once(void) {
    gwtf_heartbeat *heartbeat = make_heartbeat();
    size_t peer = 9;
    gwtf_heartbeat_forget(heartbeat, 0);
    gwtf_heartbeat_heard(heartbeat, 1, 50);
    gwtf_heartbeat_heard(heartbeat, 2, 120);
    for (gwtf_time_us now_us = 0; now_us <= 150; now_us += 10)
        CU_ASSERT_FALSE(gwtf_heartbeat_next_silent(heartbeat, now_us, &peer));
    CU_ASSERT_TRUE(gwtf_heartbeat_next_silent(heartbeat, 151, &peer));
    CU_ASSERT_EQUAL(peer, 1);
    CU_ASSERT_FALSE(gwtf_heartbeat_next_silent(heartbeat, 151, &peer));
    CU_ASSERT_FALSE(gwtf_heartbeat_watches(heartbeat, 1));
    gwtf_heartbeat_destroy(heartbeat);
}

static void a_peer_that_never_spoke_gets_more_time(void) {
    gwtf_heartbeat *heartbeat = make_heartbeat();
    size_t peer;
    for (gwtf_time_us now_us = 0; now_us <= 1000; now_us += 10)
        CU_ASSERT_FALSE(gwtf_heartbeat_next_silent(heartbeat, now_us, &peer));
    CU_ASSERT_TRUE(gwtf_heartbeat_next_silent(heartbeat, 1001, &peer));
    CU_ASSERT_EQUAL(peer, 0);
    gwtf_heartbeat_destroy(heartbeat);
}

static void a_node_that_stood_still_does_not_blame_its_peers(void) {
    gwtf_heartbeat *heartbeat = make_heartbeat();
    size_t peer;
    for (size_t i = 0; i < 3; i++)
        gwtf_heartbeat_heard(heartbeat, i, 0);
    for (gwtf_time_us now_us = 20; now_us <= 80; now_us += 20)
        CU_ASSERT_FALSE(gwtf_heartbeat_next_silent(heartbeat, now_us, &peer));
    CU_ASSERT_FALSE(gwtf_heartbeat_next_silent(heartbeat, 500, &peer));
    CU_ASSERT_FALSE(gwtf_heartbeat_next_silent(heartbeat, 520, &peer));
    /* 80 before and 20 after the 420 that it stood still. */
    CU_ASSERT_TRUE(gwtf_heartbeat_next_silent(heartbeat, 521, &peer));
    gwtf_heartbeat_destroy(heartbeat);
}

static void a_peer_heard_behind_a_standstill_gets_no_more_time_than_others(void) {
    gwtf_heartbeat *heartbeat = make_heartbeat();
    size_t peer;
    gwtf_heartbeat_forget(heartbeat, 0);
    gwtf_heartbeat_forget(heartbeat, 2);
    gwtf_heartbeat_heard(heartbeat, 1, 500);
    for (gwtf_time_us now_us = 500; now_us <= 600; now_us += 20)
        CU_ASSERT_FALSE(gwtf_heartbeat_next_silent(heartbeat, now_us, &peer));
    CU_ASSERT_TRUE(gwtf_heartbeat_next_silent(heartbeat, 601, &peer));
    gwtf_heartbeat_destroy(heartbeat);
}

/* A peer that has been heard every PAUSE_MS for six seconds, as a worker would configure it. */
static gwtf_heartbeat *make_learned(int64_t pause_ms, int64_t round_trip_ms, gwtf_time_us *now_us) {
    struct gwtf_heartbeat_config config = {.peers = 1,
                                           .interval_us = 250000,
                                           .silence_least_us = 1200000,
                                           .silence_most_us = 15000000,
                                           .first_silence_us = 120000000};
    gwtf_heartbeat *heartbeat = NULL;
    size_t peer;
    CU_ASSERT_EQUAL_FATAL(gwtf_heartbeat_create(&config, 0, &heartbeat), GWTF_OK);
    for (*now_us = 0; *now_us < 6000000; *now_us += 1000) {
        if (*now_us % (1000 * pause_ms) == 0)
            gwtf_heartbeat_heard(heartbeat, 0, *now_us);
        gwtf_heartbeat_round_trip(heartbeat, 0, 1000 * round_trip_ms);
        CU_ASSERT_FALSE(gwtf_heartbeat_next_silent(heartbeat, *now_us, &peer));
    }
    gwtf_heartbeat_heard(heartbeat, 0, *now_us);
    return heartbeat;
}

static void the_deadline_follows_pauses_and_round_trips(void) {
    static const struct {
        int64_t pause_ms, round_trip_ms, limit_us;
    } cases[] = {
        {250, 0, 1200000},   /* the least */
        {250, 20, 1400000},  /* and ten round trips */
        {500, 0, 2000000},   /* four pauses */
        {250, 530, 6500000}, /* the other end of the world */
        {6000, 0, 15000000}, /* the most */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gwtf_time_us now_us, heard_us;
        size_t peer;
        gwtf_heartbeat *heartbeat =
            make_learned(cases[i].pause_ms, cases[i].round_trip_ms, &now_us);
        CU_ASSERT_EQUAL(gwtf_heartbeat_limit_us(heartbeat, 0), cases[i].limit_us);
        heard_us = now_us;
        while (!gwtf_heartbeat_next_silent(heartbeat, now_us, &peer) && now_us < 60000000)
            now_us += 1000;
        CU_ASSERT_EQUAL(now_us - heard_us, cases[i].limit_us + 1000);
        gwtf_heartbeat_destroy(heartbeat);
    }
}

static void a_long_pause_is_forgotten_over_minutes(void) {
    gwtf_time_us now_us;
    size_t peer;
    gwtf_heartbeat *heartbeat = make_learned(1000, 0, &now_us);
    CU_ASSERT_EQUAL(gwtf_heartbeat_limit_us(heartbeat, 0), 4000000);
    gwtf_time_us from_us = now_us;
    while (now_us < from_us + 120000000) {
        now_us += 100000;
        gwtf_heartbeat_heard(heartbeat, 0, now_us);
        gwtf_heartbeat_next_silent(heartbeat, now_us, &peer);
    }
    /* A second, 1/e of which is left after two minutes. */
    CU_ASSERT(gwtf_heartbeat_limit_us(heartbeat, 0) > 4 * 365000);
    CU_ASSERT(gwtf_heartbeat_limit_us(heartbeat, 0) < 4 * 370000);
    gwtf_heartbeat_destroy(heartbeat);
}

static void a_pause_in_which_this_node_stood_still_is_not_the_peer_s(void) {
    gwtf_time_us now_us;
    size_t peer;
    gwtf_heartbeat *heartbeat = make_learned(250, 0, &now_us);
    now_us += 3000000;
    gwtf_heartbeat_heard(heartbeat, 0, now_us);
    CU_ASSERT_FALSE(gwtf_heartbeat_next_silent(heartbeat, now_us, &peer));
    CU_ASSERT_EQUAL(gwtf_heartbeat_limit_us(heartbeat, 0), 1200000);
    gwtf_heartbeat_destroy(heartbeat);
}

static void heartbeats_are_due_once_an_interval(void) {
    gwtf_heartbeat *heartbeat = make_heartbeat();
    CU_ASSERT_TRUE(gwtf_heartbeat_due(heartbeat, 0));
    CU_ASSERT_FALSE(gwtf_heartbeat_due(heartbeat, 9));
    CU_ASSERT_TRUE(gwtf_heartbeat_due(heartbeat, 10));
    gwtf_heartbeat_destroy(heartbeat);
}

static void write_text(const char *name, const char *text) {
    CU_ASSERT_TRUE_FATAL(temporary_write(temporary_path(name), text, strlen(text)));
}

static void the_tightest_control_group_limits_memory(void) {
    CU_ASSERT_EQUAL_FATAL(mkdir(temporary_path("job"), 0777), 0);
    CU_ASSERT_EQUAL_FATAL(mkdir(temporary_path("job/step"), 0777), 0);
    CU_ASSERT_EQUAL(gwtf_machine_group_bytes(temporary_directory, "/job/step"), UINT64_MAX);
    write_text("job/memory.max", "1000\n");
    write_text("job/memory.current", "700\n");
    write_text("job/step/memory.max", "max\n");
    write_text("job/step/memory.current", "700\n");
    CU_ASSERT_EQUAL(gwtf_machine_group_bytes(temporary_directory, "/job/step"), 300);
    CU_ASSERT_EQUAL(gwtf_machine_group_bytes(temporary_directory, "/"), UINT64_MAX);
    write_text("memory.max", "2000\n");
    write_text("memory.current", "2100\n");
    CU_ASSERT_EQUAL(gwtf_machine_group_bytes(temporary_directory, "/job/step"), 0);
}

static void files_that_were_read_do_not_count_as_taken_memory(void) {
    write_text("memory.max", "1000\n");
    write_text("memory.current", "900\n");
    write_text("memory.stat", "anon 150\ninactive_file 600\nactive_file 100\n");
    CU_ASSERT_EQUAL(gwtf_machine_group_bytes(temporary_directory, ""), 700);
}

static void mapped_memory_counts_as_data_before_it_is_touched(void) {
    const size_t bytes = (size_t)64 << 20;
    uint64_t before = gwtf_machine_data_bytes();
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CU_ASSERT_FATAL(mapped != MAP_FAILED);
    uint64_t after = gwtf_machine_data_bytes();
    CU_ASSERT_TRUE(before > 0);
    /* The allocator may map or give back a little of its own meanwhile. */
    CU_ASSERT_TRUE(after > before + bytes / 2 && after < before + 2 * bytes);
    munmap(mapped, bytes);
}

static void a_job_has_its_part_of_the_machine(void) {
    char name[64];
    unsetenv("SLURM_MEM_PER_NODE");
    unsetenv("SLURM_MEM_PER_CPU");
    unsetenv("SLURM_CPUS_ON_NODE");
    uint32_t cores = gwtf_machine_cores();
    CU_ASSERT_TRUE(gwtf_machine_free_bytes() > (uint64_t)48 << 20);
    /* Slurm counts in megabytes. */
    setenv("SLURM_MEM_PER_NODE", "48", 1);
    CU_ASSERT_EQUAL(gwtf_machine_free_bytes(), (uint64_t)48 << 20);
    unsetenv("SLURM_MEM_PER_NODE");
    setenv("SLURM_MEM_PER_CPU", "8", 1);
    setenv("SLURM_CPUS_ON_NODE", "4", 1);
    CU_ASSERT_EQUAL(gwtf_machine_free_bytes(), (uint64_t)32 << 20);
    /* 0 is all of it. */
    setenv("SLURM_MEM_PER_CPU", "0", 1);
    CU_ASSERT_TRUE(gwtf_machine_free_bytes() > (uint64_t)48 << 20);
    setenv("SLURM_CPUS_ON_NODE", "1", 1);
    CU_ASSERT_EQUAL(gwtf_machine_cores(), 1);
    setenv("SLURM_CPUS_ON_NODE", "100000", 1);
    CU_ASSERT_EQUAL(gwtf_machine_cores(), cores);
    setenv("SLURMD_NODENAME", "uni7", 1);
    gwtf_machine_name(name, sizeof name);
    CU_ASSERT_STRING_EQUAL(name, "uni7");
    unsetenv("SLURMD_NODENAME");
    unsetenv("SLURM_CPUS_ON_NODE");
    unsetenv("SLURM_MEM_PER_CPU");
    gwtf_machine_name(name, sizeof name);
    CU_ASSERT_STRING_NOT_EQUAL(name, "uni7");
    CU_ASSERT_STRING_NOT_EQUAL(name, "");
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_sealed_frame_passes_its_check),
        GWTF_TEST(a_frame_of_another_incarnation_or_sequence_is_refused),
        GWTF_TEST(every_flipped_byte_of_a_frame_is_noticed),
        GWTF_TEST(pieces_cover_a_tensor_once),
        GWTF_TEST(a_charter_survives_packing),
        GWTF_TEST(a_cut_or_damaged_charter_is_refused),
        GWTF_TEST(a_peer_that_falls_silent_is_found_once),
        GWTF_TEST(a_peer_that_never_spoke_gets_more_time),
        GWTF_TEST(a_node_that_stood_still_does_not_blame_its_peers),
        GWTF_TEST(a_peer_heard_behind_a_standstill_gets_no_more_time_than_others),
        GWTF_TEST(the_deadline_follows_pauses_and_round_trips),
        GWTF_TEST(a_long_pause_is_forgotten_over_minutes),
        GWTF_TEST(a_pause_in_which_this_node_stood_still_is_not_the_peer_s),
        GWTF_TEST(heartbeats_are_due_once_an_interval),
        GWTF_TEST(the_tightest_control_group_limits_memory),
        GWTF_TEST(files_that_were_read_do_not_count_as_taken_memory),
        GWTF_TEST(a_job_has_its_part_of_the_machine),
        GWTF_TEST(mapped_memory_counts_as_data_before_it_is_touched),
    };
    return gwtf_suite_main(argc, argv, "runtime", tests, sizeof tests / sizeof tests[0],
                           temporary_make, temporary_remove);
}
