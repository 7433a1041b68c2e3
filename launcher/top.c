/* gwtf top: what a run does, on a screen that follows it; lines where there is no terminal. */
#include "launcher/commands.h"
#include "launcher/options.h"
#include "launcher/view.h"

#include <curses.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOSSES_MAX 512

struct top {
    const char *directory;
    double interval_s;
    double count;       /* looks; 0: until the end */
    unsigned first_row; /* of the nodes, when they are more than fit */
    double losses[LOSSES_MAX];
    uint64_t losses_count; /* those of the last iterations, in turn */
    uint64_t metrics_offset;
};

static bool parse_options(int argc, char **argv, struct top *top, int *code) {
    const char *interval = NULL, *count = NULL;
    const struct gwtf_option options[] = {{.name = "interval",
                                           .letter = 'd',
                                           .argument = "SECONDS",
                                           .help = "between two looks: 1",
                                           .value = &interval},
                                          {.name = "count",
                                           .letter = 'n',
                                           .argument = "N",
                                           .help = "look N times, then end",
                                           .value = &count},
                                          {0}};
    const struct gwtf_usage usage = {
        .command = "top",
        .arguments = "RUN [--interval SECONDS] [--count N]",
        .summary = "Follows what a run does, on every machine that sees its directory: progress,\n"
                   "losses, nodes, last events. q ends it, arrows scroll the nodes. Without a\n"
                   "terminal it prints a line at each look, until the run is over.\n",
        .example = "  gwtf top runs/small\n"
                   "  gwtf top runs/small --interval 60 >progress.log\n",
        .arguments_least = 1,
        .arguments_most = 1,
    };
    if (!gwtf_options_parse(&usage, options, argc, argv, code))
        return false;
    top->directory = argv[optind];
    *code = gwtf_option_number("interval", interval, 0.1, 86400, false, &top->interval_s);
    if (*code == 0)
        *code = gwtf_option_number("count", count, 1, 1e9, true, &top->count);
    return *code == 0;
}

static void note_loss(void *context, const struct gwtf_metrics *metrics) {
    struct top *top = context;
    top->losses[top->losses_count++ % LOSSES_MAX] = metrics->loss;
}

static bool is_over(const struct gwtf_view *view) {
    return strcmp(view->phase, "finished") == 0 || strcmp(view->phase, "failed") == 0 ||
           strcmp(view->phase, "stopped") == 0;
}

/* "training: iteration 40 of 100  loss 4.6  ..." */
static void form_progress(const struct gwtf_view *view, char *text, size_t text_bytes) {
    char left[80] = "", span[48];
    if (!isnan(gwtf_view_seconds_left(view)))
        snprintf(left, sizeof left, "  %s left",
                 gwtf_view_span(gwtf_view_seconds_left(view), span));
    if (view->metrics_count == 0)
        snprintf(text, text_bytes, "%.32s: %.1000s", view->phase, view->explanation);
    else
        snprintf(text, text_bytes,
                 "%s: iteration %" PRIu64 " of %" PRIu64 "  loss %.4f  %.0f tokens/s  %u nodes%s",
                 view->phase, view->last.iteration, view->iterations, view->last.loss,
                 view->last.tokens_per_second, view->last.nodes, left);
}

/* The losses as a picture of HEIGHT rows: each column is the mean of as many iterations. */
static void draw_losses(const struct top *top, int row, int height, int width) {
    uint64_t known = top->losses_count < LOSSES_MAX ? top->losses_count : LOSSES_MAX;
    uint64_t first = top->losses_count - known;
    int columns = known < (uint64_t)width ? (int)known : width;
    double least = INFINITY, most = -INFINITY, means[LOSSES_MAX];
    for (int c = 0; c < columns; c++) {
        uint64_t from = known * (uint64_t)c / (uint64_t)columns;
        uint64_t to = known * (uint64_t)(c + 1) / (uint64_t)columns;
        means[c] = 0;
        for (uint64_t i = from; i < to; i++)
            means[c] += top->losses[(first + i) % LOSSES_MAX] / (double)(to - from);
        least = means[c] < least ? means[c] : least;
        most = means[c] > most ? means[c] : most;
    }
    if (columns < 2)
        return;
    mvprintw(row, 0, "%8.4f", most);
    mvprintw(row + height - 1, 0, "%8.4f", least);
    for (int c = 0; c < columns; c++) {
        double share = most > least ? (most - means[c]) / (most - least) : 0.5;
        mvaddch(row + (int)lround(share * (height - 1)), 10 + c, '*');
    }
}

static void draw_nodes(const struct gwtf_view *view, unsigned first, int row, int rows) {
    attron(A_REVERSE);
    mvprintw(row, 0, "%4s  %-9s %-9s %9s %8s  %-20s %s", "node", "role", "phase", "iteration",
             "capacity", "host", "last seen");
    attroff(A_REVERSE);
    for (int i = 0; i < rows - 1 && first + (unsigned)i < view->nodes_count; i++) {
        const struct gwtf_node_state *node = &view->nodes[first + (unsigned)i];
        char span[48], where[288], role[32] = "data";
        bool silent = gwtf_view_is_silent(view, node);
        if (node->stage > 0)
            snprintf(role, sizeof role, "stage %" PRIu32, node->stage);
        if (silent || node->phase == GWTF_NODE_FAILED)
            attron(A_BOLD);
        mvprintw(row + 1 + i, 0,
                 "%4" PRIu32 "  %-9s %-9s %9" PRIu64 " %8" PRIu32 "  %-20s %s ago%s", node->node,
                 role, gwtf_node_phase_name(node->phase), node->iteration, node->capacity,
                 gwtf_view_where(node, where), gwtf_view_span(gwtf_view_age_s(view, node), span),
                 silent ? ", silent" : "");
        attroff(A_BOLD);
    }
}

static void draw_events(const struct gwtf_view *view, int row, int rows) {
    uint64_t first = gwtf_view_first_event(view);
    if (view->events_count - first > (uint64_t)rows)
        first = view->events_count - (uint64_t)rows;
    for (uint64_t i = first; i < view->events_count; i++) {
        const struct gwtf_view_event *event = &view->events[i % GWTF_VIEW_EVENTS_MAX];
        char node[24] = "";
        if (event->node != GWTF_NODE_NONE)
            snprintf(node, sizeof node, " node %" PRIu32, event->node);
        mvprintw(row++, 0, "%.19s  %s%s after iteration %" PRIu64 "  %s", event->time, event->kind,
                 node, event->iteration, event->text);
    }
}

static void draw(struct top *top, const struct gwtf_view *view) {
    char text[1200], job[512];
    int row = 0, rows = LINES, width = COLS - 11;
    erase();
    gwtf_view_job(view, job, sizeof job);
    mvprintw(row++, 0, "%s%s%s", view->directory, job[0] != '\0' ? "  job " : "", job);
    form_progress(view, text, sizeof text);
    mvprintw(row++, 0, "%s", text);
    if (view->iterations > 0 && COLS > 12) {
        double share = (double)view->last.iteration / (double)view->iterations;
        mvaddch(row, 0, '[');
        for (int i = 0; i < (int)(share * (COLS - 2)) && i < COLS - 2; i++)
            mvaddch(row, 1 + i, '#');
        mvaddch(row++, COLS - 1, ']');
    }
    if (view->has_snapshot)
        mvprintw(row++, 0, "snapshot of step %" PRIu64, view->snapshot.step);
    int chart = rows >= 30 ? 8 : rows >= 20 ? 4 : 0;
    int events = rows >= 20 ? 5 : 2;
    if (chart > 0)
        draw_losses(top, row + 1, chart, width > LOSSES_MAX ? LOSSES_MAX : width);
    row += chart > 0 ? chart + 2 : 1;
    if (rows - row - events - 1 > 1)
        draw_nodes(view, top->first_row, row, rows - row - events - 1);
    draw_events(view, rows - events, events);
    refresh();
}

/* Waits until the next look; false: the person wants to leave. */
static bool await_key(struct top *top, const struct gwtf_view *view) {
    timeout((int)(top->interval_s * 1000));
    int key = getch();
    if (key == KEY_DOWN && top->first_row + 1 < view->nodes_count)
        top->first_row++;
    else if (key == KEY_UP && top->first_row > 0)
        top->first_row--;
    return key != 'q' && key != 'Q' && key != 27;
}

static void print_line(const struct gwtf_view *view) {
    char text[1200], now[32];
    time_t seconds = time(NULL);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime(&seconds));
    form_progress(view, text, sizeof text);
    printf("%s  %s\n", now, text);
    fflush(stdout);
}

static void wait_for_next(const struct top *top) {
    double whole = floor(top->interval_s);
    struct timespec pause = {.tv_sec = (time_t)whole,
                             .tv_nsec = (long)((top->interval_s - whole) * 1e9)};
    nanosleep(&pause, NULL);
}

/* Look after look. SCREEN: a terminal is there. */
static gwtf_status follow(struct top *top, bool screen, struct gwtf_error *error) {
    for (uint64_t looks = 1;; looks++) {
        struct gwtf_view view = {.directory = top->directory};
        gwtf_status status = gwtf_view_look(&view, error);
        if (status != GWTF_OK)
            return status;
        if (view.last.iteration < top->losses_count) { /* it goes on from an older snapshot */
            top->losses_count = 0;
            top->metrics_offset = 0;
        }
        gwtf_run_read_metrics(top->directory, &top->metrics_offset, note_loss, top, NULL);
        bool last = top->count > 0 && (double)looks >= top->count;
        if (screen)
            draw(top, &view);
        else
            print_line(&view);
        if (screen)
            last = !await_key(top, &view) || last;
        else if (is_over(&view))
            last = true;
        else if (!last)
            wait_for_next(top);
        gwtf_view_deinit(&view);
        if (last)
            return GWTF_OK;
    }
}

int gwtf_command_top(int argc, char **argv) {
    static struct top top;
    struct gwtf_error error = {""};
    struct gwtf_view view = {0};
    int code;
    top.interval_s = 1;
    if (!parse_options(argc, argv, &top, &code))
        return code;
    view.directory = top.directory;
    gwtf_status status = gwtf_view_look(&view, &error); /* before the screen is another */
    gwtf_view_deinit(&view);
    const char *terminal = getenv("TERM");
    bool screen = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && terminal != NULL &&
                  terminal[0] != '\0' && strcmp(terminal, "dumb") != 0;
    if (status == GWTF_OK && screen) {
        setlocale(LC_ALL, "");
        setlocale(LC_NUMERIC, "C");
        SCREEN *made = newterm(NULL, stdout, stdin);
        screen = made != NULL;
        if (screen) {
            cbreak();
            noecho();
            keypad(stdscr, TRUE);
            curs_set(0);
        }
    }
    if (status == GWTF_OK)
        status = follow(&top, screen, &error);
    if (screen && stdscr != NULL)
        endwin();
    return status == GWTF_OK ? 0 : gwtf_fail(status, "%s", error.text);
}
