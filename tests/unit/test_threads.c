#include "tests/support/suite.h"
#include "worker/runtime/queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ITEMS 20000

struct party {
    gwtf_queue *queue;
    uint64_t first;
    uint64_t sum;
    uint64_t count;
    bool in_order;
};

static void *push_items(void *argument) {
    struct party *party = argument;
    for (uint64_t i = 0; i < ITEMS; i++) {
        uint64_t item = party->first + i;
        gwtf_queue_push(party->queue, &item);
    }
    return NULL;
}

static void *pop_items(void *argument) {
    struct party *party = argument;
    uint64_t item, last = 0;
    party->in_order = true;
    while (gwtf_queue_pop(party->queue, &item)) {
        party->in_order = party->in_order && item > last;
        last = item;
        party->sum += item;
        party->count++;
    }
    return NULL;
}

static void every_item_comes_out_once_with_many_threads(void) {
    struct party pushers[3] = {{0}}, poppers[2] = {{0}};
    pthread_t push_threads[3], pop_threads[2];
    gwtf_queue *queue = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_queue_create(sizeof(uint64_t), 8, NULL, &queue), GWTF_OK);
    for (int i = 0; i < 2; i++) {
        poppers[i].queue = queue;
        pthread_create(&pop_threads[i], NULL, pop_items, &poppers[i]);
    }
    for (int i = 0; i < 3; i++) {
        pushers[i].queue = queue;
        pushers[i].first = (uint64_t)i * ITEMS;
        pthread_create(&push_threads[i], NULL, push_items, &pushers[i]);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(push_threads[i], NULL);
    gwtf_queue_close(queue);
    for (int i = 0; i < 2; i++)
        pthread_join(pop_threads[i], NULL);
    uint64_t all = 3 * ITEMS;
    CU_ASSERT_EQUAL(poppers[0].count + poppers[1].count, all);
    CU_ASSERT_EQUAL(poppers[0].sum + poppers[1].sum, all * (all - 1) / 2);
    gwtf_queue_destroy(queue);
}

static void one_pusher_and_one_popper_keep_the_order(void) {
    struct party pusher = {.first = 1}, popper = {0};
    pthread_t push_thread, pop_thread;
    gwtf_queue *queue = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_queue_create(sizeof(uint64_t), 4, NULL, &queue), GWTF_OK);
    pusher.queue = popper.queue = queue;
    pthread_create(&pop_thread, NULL, pop_items, &popper);
    pthread_create(&push_thread, NULL, push_items, &pusher);
    pthread_join(push_thread, NULL);
    gwtf_queue_close(queue);
    pthread_join(pop_thread, NULL);
    CU_ASSERT_TRUE(popper.in_order);
    CU_ASSERT_EQUAL(popper.count, ITEMS);
    gwtf_queue_destroy(queue);
}

static void a_full_queue_refuses_and_an_empty_one_gives_nothing(void) {
    gwtf_queue *queue = NULL;
    int item = 1;
    CU_ASSERT_EQUAL_FATAL(gwtf_queue_create(sizeof item, 2, NULL, &queue), GWTF_OK);
    CU_ASSERT_FALSE(gwtf_queue_try_pop(queue, &item));
    CU_ASSERT_EQUAL(gwtf_queue_try_push(queue, &item), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_queue_try_push(queue, &item), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_queue_try_push(queue, &item), GWTF_ERROR_LIMIT);
    gwtf_queue_close(queue);
    CU_ASSERT_TRUE(gwtf_queue_pop(queue, &item));
    CU_ASSERT_TRUE(gwtf_queue_pop(queue, &item));
    CU_ASSERT_FALSE(gwtf_queue_pop(queue, &item));
    CU_ASSERT_EQUAL(gwtf_queue_push(queue, &item), GWTF_ERROR_LIMIT);
    gwtf_queue_destroy(queue);
}

static void *ring(void *argument) {
    gwtf_bell_ring(argument);
    return NULL;
}

static void a_bell_that_rang_before_the_wait_is_heard(void) {
    gwtf_bell *bell = NULL;
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(gwtf_bell_create(&bell), GWTF_OK);
    CU_ASSERT_FALSE(gwtf_bell_wait(bell, 1000));
    gwtf_bell_ring(bell);
    CU_ASSERT_TRUE(gwtf_bell_wait(bell, 1000));
    CU_ASSERT_FALSE(gwtf_bell_wait(bell, 0));
    pthread_create(&thread, NULL, ring, bell);
    CU_ASSERT_TRUE(gwtf_bell_wait(bell, 60000000));
    pthread_join(thread, NULL);
    gwtf_bell_destroy(bell);
}

static void what_comes_into_a_set_of_descriptors_ends_listening(void) {
    gwtf_bell *bell = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_bell_create(&bell), GWTF_OK);
    CU_ASSERT_FALSE(gwtf_bell_find_sets(bell));
    int set = epoll_create1(EPOLL_CLOEXEC), ends[2];
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    struct epoll_event readable = {.events = EPOLLIN};
    CU_ASSERT_EQUAL_FATAL(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &readable), 0);
    CU_ASSERT_TRUE(gwtf_bell_find_sets(bell));

    CU_ASSERT_EQUAL(gwtf_bell_listen(bell, 1000), GWTF_WAKE_TIME);
    CU_ASSERT_EQUAL_FATAL(write(ends[1], "x", 1), 1);
    CU_ASSERT_EQUAL(gwtf_bell_listen(bell, 60000000), GWTF_WAKE_SOCKET);
    CU_ASSERT_EQUAL(gwtf_bell_listen(bell, 60000000), GWTF_WAKE_SOCKET);
    CU_ASSERT_FALSE(gwtf_bell_wait(bell, 1000));
    gwtf_bell_ring(bell);
    CU_ASSERT_EQUAL(gwtf_bell_listen(bell, 60000000), GWTF_WAKE_RUNG);

    close(set);
    CU_ASSERT_EQUAL(gwtf_bell_listen(bell, 1000), GWTF_WAKE_TIME);
    gwtf_bell_ring(bell);
    CU_ASSERT_EQUAL(gwtf_bell_listen(bell, 60000000), GWTF_WAKE_RUNG);
    close(ends[0]);
    close(ends[1]);
    gwtf_bell_destroy(bell);
}

static void a_push_rings_the_queues_bell(void) {
    gwtf_bell *bell = NULL;
    gwtf_queue *queue = NULL;
    int item = 5;
    CU_ASSERT_EQUAL_FATAL(gwtf_bell_create(&bell), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_queue_create(sizeof item, 2, bell, &queue), GWTF_OK);
    gwtf_queue_push(queue, &item);
    CU_ASSERT_TRUE(gwtf_bell_wait(bell, 0));
    gwtf_queue_destroy(queue);
    gwtf_bell_destroy(bell);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(every_item_comes_out_once_with_many_threads),
        GWTF_TEST(one_pusher_and_one_popper_keep_the_order),
        GWTF_TEST(a_full_queue_refuses_and_an_empty_one_gives_nothing),
        GWTF_TEST(a_bell_that_rang_before_the_wait_is_heard),
        GWTF_TEST(what_comes_into_a_set_of_descriptors_ends_listening),
        GWTF_TEST(a_push_rings_the_queues_bell),
    };
    return gwtf_suite_main(argc, argv, "threads", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
