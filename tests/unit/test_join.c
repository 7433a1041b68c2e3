/* RUN/join: what those that come and those that are there write for each other. */
#include "io/join.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"

#include <sys/stat.h>
#include <time.h>
#include <utime.h>

static const char *run;

static void begin(void) {
    struct gwtf_error error;
    run = temporary_path("run");
    CU_ASSERT_EQUAL_FATAL(gwtf_join_prepare(run, &error), GWTF_OK);
}

static const char *path_of(const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/join/%s", run, name);
    return path;
}

static bool is_there(const char *name) {
    struct stat facts;
    return stat(path_of(name), &facts) == 0;
}

static void who_asks_is_read_as_it_was_written(void) {
    begin();
    struct gwtf_join_request asked = {.token = "uni1-17",
                                      .host = "uni1.example.org",
                                      .pid = 17,
                                      .stage = 3,
                                      .stays = true,
                                      .block_seconds = 0.125};
    struct gwtf_join_request read;
    CU_ASSERT_FALSE(gwtf_join_read_request(run, "uni1-17", &read));
    CU_ASSERT_EQUAL(gwtf_join_write_request(run, &asked, NULL), GWTF_OK);
    CU_ASSERT_TRUE_FATAL(gwtf_join_read_request(run, "uni1-17", &read));
    CU_ASSERT_STRING_EQUAL(read.token, "uni1-17");
    CU_ASSERT_STRING_EQUAL(read.host, "uni1.example.org");
    CU_ASSERT_EQUAL(read.pid, 17);
    CU_ASSERT_EQUAL(read.stage, 3);
    CU_ASSERT_TRUE(read.stays);
    CU_ASSERT_EQUAL(read.block_seconds, 0.125);
}

static void a_place_becomes_a_member_s(void) {
    begin();
    gwtf_node_id members[] = {0, 1, 4};
    struct gwtf_join_place given = {.token = "uni1-17",
                                    .node = 5,
                                    .stage = 2,
                                    .incarnation = 40,
                                    .block_seconds = 0.25,
                                    .why = "its 1 nodes are busy for 90 % of the time",
                                    .members = members,
                                    .members_count = 3};
    struct gwtf_join_place read;
    struct gwtf_join_request request = {.token = "uni1-17"};
    gwtf_join_write_request(run, &request, NULL);
    CU_ASSERT_EQUAL(gwtf_join_write_place(run, &given, NULL), GWTF_OK);
    CU_ASSERT_FALSE(gwtf_join_read_member(run, "uni1-17", &read));
    CU_ASSERT_TRUE_FATAL(gwtf_join_read_place(run, "uni1-17", &read));
    CU_ASSERT_EQUAL(read.node, 5);
    CU_ASSERT_EQUAL(read.incarnation, 40);
    CU_ASSERT_FALSE(read.stays);
    CU_ASSERT_EQUAL(read.block_seconds, 0.25);
    CU_ASSERT_STRING_EQUAL(read.why, given.why);
    CU_ASSERT_EQUAL_FATAL(read.members_count, 3);
    CU_ASSERT_EQUAL(read.members[2], 4);
    free(read.members);
    gwtf_join_keep_member(run, "uni1-17");
    CU_ASSERT_FALSE(gwtf_join_read_place(run, "uni1-17", &read));
    CU_ASSERT_FALSE(is_there("uni1-17.request"));
    CU_ASSERT_TRUE_FATAL(gwtf_join_read_member(run, "uni1-17", &read));
    CU_ASSERT_EQUAL(read.node, 5);
    free(read.members);
    gwtf_join_remove_member(run, "uni1-17");
    CU_ASSERT_FALSE(gwtf_join_read_member(run, "uni1-17", &read));
}

static void a_refusal_has_no_node(void) {
    begin();
    struct gwtf_join_place refusal = {.token = "a", .node = GWTF_NODE_NONE, .why = "no place"};
    struct gwtf_join_place read;
    gwtf_join_write_place(run, &refusal, NULL);
    CU_ASSERT_TRUE_FATAL(gwtf_join_read_place(run, "a", &read));
    CU_ASSERT_EQUAL(read.node, GWTF_NODE_NONE);
    CU_ASSERT_STRING_EQUAL(read.why, "no place");
    free(read.members);
}

static void a_wish_for_a_process_is_taken_once(void) {
    begin();
    struct gwtf_join_spawn wish = {.token = "a",
                                   .host = "node7",
                                   .stage = 2,
                                   .capacity = 3,
                                   .threads = 8,
                                   .stays = true,
                                   .data = "/a/b.h5"};
    struct gwtf_join_spawn taken;
    CU_ASSERT_FALSE(gwtf_join_take_spawn(run, "a", &taken));
    gwtf_join_write_spawn(run, &wish, NULL);
    CU_ASSERT_TRUE_FATAL(gwtf_join_take_spawn(run, "a", &taken));
    CU_ASSERT_STRING_EQUAL(taken.host, "node7");
    CU_ASSERT_EQUAL(taken.stage, 2);
    CU_ASSERT_EQUAL(taken.capacity, 3);
    CU_ASSERT_EQUAL(taken.threads, 8);
    CU_ASSERT_TRUE(taken.stays);
    CU_ASSERT_STRING_EQUAL(taken.data, "/a/b.h5");
    wish.stage = GWTF_JOIN_DATA_NODE;
    gwtf_join_write_spawn(run, &wish, NULL);
    CU_ASSERT_TRUE_FATAL(gwtf_join_take_spawn(run, "a", &taken));
    CU_ASSERT_EQUAL(taken.stage, GWTF_JOIN_DATA_NODE);
    CU_ASSERT_FALSE(gwtf_join_take_spawn(run, "a", &taken));
}

static void damaged_files_are_not_there(void) {
    begin();
    struct gwtf_join_place place;
    struct gwtf_join_request request;
    struct gwtf_join_spawn spawn;
    struct gwtf_error line;
    int code;
    static const char *const damaged[] = {
        "", "{", "[1, 2]", "{\"members\": [-1]}", "{\"members\": [4294967295]}", "\xff\xfe"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        size_t bytes = strlen(damaged[i]);
        CU_ASSERT_TRUE(temporary_write(path_of("a.place"), damaged[i], bytes));
        CU_ASSERT_FALSE(gwtf_join_read_place(run, "a", &place));
        if (i > 2 && i < 5)
            continue; /* an object is good enough for the others */
        CU_ASSERT_TRUE(temporary_write(path_of("a.request"), damaged[i], bytes));
        CU_ASSERT_TRUE(temporary_write(path_of("a.spawn"), damaged[i], bytes));
        CU_ASSERT_TRUE(temporary_write(path_of("a.end"), damaged[i], bytes));
        CU_ASSERT_TRUE(temporary_write(path_of("a.moves"), damaged[i], bytes));
        CU_ASSERT_FALSE(gwtf_join_read_request(run, "a", &request));
        CU_ASSERT_FALSE(gwtf_join_take_spawn(run, "a", &spawn));
        CU_ASSERT_FALSE(gwtf_join_read_end(run, "a", &code, &line));
        CU_ASSERT_EQUAL(gwtf_join_read_moves(run, "a"), 0);
    }
}

static void who_moves_says_where(void) {
    begin();
    CU_ASSERT_EQUAL(gwtf_join_read_moves(run, "a"), 0);
    CU_ASSERT_EQUAL(gwtf_join_write_moves(run, "a", 3), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_join_read_moves(run, "a"), 3);
}

static void note_node(void *context, gwtf_node_id node) {
    *(uint32_t *)context |= 1u << node;
}

static void old_ports_are_not_new_ones(void) {
    begin();
    char port[GWTF_JOIN_PORT_MAX];
    uint32_t nodes = 0;
    int64_t now_s = time(NULL);
    CU_ASSERT_EQUAL(gwtf_join_write_port(run, "a", 3, "tcp://10.0.0.1:5", NULL), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_join_write_port(run, "a", 5, "tcp://10.0.0.2:5", NULL), GWTF_OK);
    gwtf_join_each_port(run, "a", note_node, &nodes);
    CU_ASSERT_EQUAL(nodes, 1u << 3 | 1u << 5);
    CU_ASSERT_TRUE(gwtf_join_read_new_port(run, "a", 3, now_s - 5, port));
    CU_ASSERT_STRING_EQUAL(port, "tcp://10.0.0.1:5");
    CU_ASSERT_FALSE(gwtf_join_read_new_port(run, "a", 3, now_s + 5, port));
    struct utimbuf long_ago = {now_s - 100, now_s - 100};
    CU_ASSERT_EQUAL(utime(path_of("a.port-0003"), &long_ago), 0);
    CU_ASSERT_FALSE(gwtf_join_read_new_port(run, "a", 3, now_s - 200, port));
    CU_ASSERT_TRUE(gwtf_join_read_port(run, "a", 3, port));
    gwtf_join_remove_port(run, "a", 3);
    CU_ASSERT_FALSE(gwtf_join_read_port(run, "a", 3, port));
}

struct tokens {
    char all[256];
};

static void note_token(void *context, const char *token) {
    struct tokens *tokens = context;
    strcat(strcat(tokens->all, token), " ");
}

static void those_that_ask_come_in_order_and_go_without_others(void) {
    begin();
    struct tokens tokens = {""};
    static const char *const names[] = {"c-1", "a-1", "a-10", "b.x"};
    for (size_t i = 0; i < 4; i++) {
        struct gwtf_join_request request = {.pid = 1};
        snprintf(request.token, sizeof request.token, "%s", names[i]);
        gwtf_join_write_request(run, &request, NULL);
    }
    gwtf_join_write_port(run, "a-1", 2, "port", NULL);
    gwtf_join_each(run, "request", note_token, &tokens);
    CU_ASSERT_STRING_EQUAL(tokens.all, "a-1 a-10 b.x c-1 ");
    gwtf_join_remove(run, "a-1");
    CU_ASSERT_FALSE(is_there("a-1.request"));
    CU_ASSERT_FALSE(is_there("a-1.port-0002"));
    CU_ASSERT_TRUE(is_there("a-10.request"));
}

static void a_closed_run_says_why(void) {
    begin();
    char why[64], interfaces[64];
    gwtf_join_read_closed(run, why, sizeof why);
    CU_ASSERT_STRING_EQUAL(why, "");
    gwtf_join_write_closed(run, "the rendezvous is gone");
    gwtf_join_read_closed(run, why, sizeof why);
    CU_ASSERT_STRING_EQUAL(why, "the rendezvous is gone");
    CU_ASSERT_EQUAL(gwtf_join_write_interfaces(run, "eth0,ib0", NULL), GWTF_OK);
    gwtf_join_read_interfaces(run, interfaces, sizeof interfaces);
    CU_ASSERT_STRING_EQUAL(interfaces, "eth0,ib0");
    CU_ASSERT_FALSE(gwtf_join_is_open(run));
    CU_ASSERT_EQUAL(gwtf_join_write_charter(run, "charter", 7, NULL), GWTF_OK);
    CU_ASSERT_TRUE(gwtf_join_is_open(run));
    gwtf_join_close(run);
    CU_ASSERT_FALSE(gwtf_join_is_open(run));
    begin(); /* another start forgets all of it */
    gwtf_join_read_closed(run, why, sizeof why);
    CU_ASSERT_STRING_EQUAL(why, "");
}

static void how_it_ended_is_told(void) {
    begin();
    struct gwtf_error line;
    int code;
    CU_ASSERT_FALSE(gwtf_join_read_end(run, "a", &code, &line));
    CU_ASSERT_EQUAL(gwtf_join_write_end(run, "a", 2, "no place is free"), GWTF_OK);
    CU_ASSERT_TRUE_FATAL(gwtf_join_read_end(run, "a", &code, &line));
    CU_ASSERT_EQUAL(code, 2);
    CU_ASSERT_STRING_EQUAL(line.text, "no place is free");
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(who_asks_is_read_as_it_was_written),
        GWTF_TEST(a_place_becomes_a_member_s),
        GWTF_TEST(a_refusal_has_no_node),
        GWTF_TEST(a_wish_for_a_process_is_taken_once),
        GWTF_TEST(damaged_files_are_not_there),
        GWTF_TEST(who_moves_says_where),
        GWTF_TEST(old_ports_are_not_new_ones),
        GWTF_TEST(those_that_ask_come_in_order_and_go_without_others),
        GWTF_TEST(a_closed_run_says_why),
        GWTF_TEST(how_it_ended_is_told),
    };
    return gwtf_suite_main(argc, argv, "join_files", tests, sizeof tests / sizeof tests[0],
                           temporary_make, temporary_remove);
}
