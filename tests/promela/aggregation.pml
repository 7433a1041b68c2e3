/*
 * How a stage agrees on one sum, whoever is lost on the way: worker/protocol/aggregation.c and
 * view.c. Checked by tests/promela/check.sh.
 *
 * Three replicas of one stage and the recorder, which stands for all other stages. One iteration.
 * Replicas crash (CRASHES of them) at any moment. Messages between two nodes keep their order, and
 * take as long as they like; what a lost node sent last may never come. A loss is noticed by each
 * node at another time.
 *
 * An attempt is named by its view: 8 * generation + bits of the lost replicas. The bits of a sum
 * depend on its attempt, so two sums are the same only where their attempts are.
 *
 * Shown: all that step, step with the sum of the same attempt, which every living replica has then;
 * and when nothing can happen any more, every living node has stepped.
 *
 * Mutants, each of which leaves out a rule, and must be found: NO_WAIT (a replica does not wait
 * until all have the sum), NO_RETRY (who has the sum keeps it though another replica has not).
 */
#ifndef CRASHES
#define CRASHES 2
#endif

#define ROOM 6 /* messages on one wire; held to be enough */
#define RECORDER 3
#define ALL 7      /* microbatches, one of each replica at first; also all replicas */
#define NO_VIEW 63

mtype = { VIEW, CONTRIBUTION, REDUCED, COMPLETE, NORM, IRREPARABLE, RESTART, DOWN, KNOWN,
          CONFIRMED, FENCED };

#define TRAINING 0
#define EXCHANGING 1
#define COLLECTING 2
#define COMPLETED 3
#define DURABLE 4
#define STEPPED 5

/* From * 4 + to. Two views, and what the kind says of the third field. */
chan wire[16] = [ROOM] of { mtype, byte, byte, byte };

typedef knowledge {
    byte view[3];       /* of each replica, as it says */
    byte complete[3];   /* the attempt whose sum it has */
    byte counted[3];    /* 8 and the microbatches that it has; of view */
    byte here[3];       /* 8 and the microbatches of its contribution */
    byte shares;        /* bits of those whose reduced share is here */
    byte stepped;       /* bits of those that have stepped */
};
knowledge known[3];
byte phase[3], generation[3], lost[3], confirmed[3], attempt[3], holds[3], sent[3];
byte norm_of_others[3]; /* 1 and the generation in which all other stages are durable */
bit irreparable[3], irreparable_told[3];
byte living = ALL;     /* neither crashed nor ended by a fence */
byte suspected;        /* somebody takes it for lost */
byte crashes;

byte recorder_generation, recorder_lost, recorder_confirmed, number, answered;
bit recorder_durable, recorder_stepped;
byte norm_of_stage = NO_VIEW; /* the attempt, of this generation */
byte sum_of_step = NO_VIEW; /* with which anybody has stepped */

hidden byte a, b, d, k, x, yes, again, all_said;
hidden byte seen[3];

#define BIT(i) (1 << (i))
#define VIEW_OF(i) (8 * generation[i] + lost[i])
#define SEES(i, j) (!(lost[i] & BIT(j)))
#define TELLS(i, j) ((j) != (i) && SEES(i, j) && (living & BIT(j)))

#define POST(from, to, kind, a1, a2, a3) \
    assert(nfull(wire[4 * (from) + (to)])); wire[4 * (from) + (to)]!kind(a1, a2, a3)

inline drain(from, to) {
    do
    :: nempty(wire[4 * (from) + (to)]) -> wire[4 * (from) + (to)]?_, _, _, _
    :: empty(wire[4 * (from) + (to)]) -> break
    od
}

inline tell_view(i) {
    known[i].view[i] = VIEW_OF(i);
    known[i].counted[i] = (phase[i] == TRAINING -> 8 + holds[i] : 0);
    for (k : 0 .. 2) {
        if
        :: TELLS(i, k) -> POST(i, k, VIEW, known[i].view[i], known[i].complete[i],
                               known[i].counted[i] + (phase[i] == STEPPED -> 16 : 0))
        :: else
        fi
    }
}

inline forget_attempt(i) {
    phase[i] = TRAINING;
    attempt[i] = VIEW_OF(i);
    sent[i] = 0;
    known[i].shares = 0;
    for (k : 0 .. 2) { known[i].here[k] = 0 }
}

/* YES: each living replica has the sum that this one has. */
inline all_complete(i) {
    yes = known[i].complete[i] != NO_VIEW;
    for (k : 0 .. 2) {
        if
        :: SEES(i, k) && known[i].complete[k] != known[i].complete[i] -> yes = 0
        :: else
        fi
    }
}

inline all_have_view(i) {
    yes = 1;
    for (k : 0 .. 2) {
        if
        :: SEES(i, k) && known[i].view[k] != VIEW_OF(i) -> yes = 0
        :: else
        fi
    }
}

#define SOMEBODY_STEPPED(i) (known[i].stepped & ~lost[i] & ~BIT(i))
#define STANDS(i) (phase[i] >= DURABLE || SOMEBODY_STEPPED(i))

inline follow_view(i) {
    if
    :: attempt[i] != VIEW_OF(i) && !STANDS(i) && phase[i] < COMPLETED -> forget_attempt(i)
    :: else
    fi;
    if
    :: known[i].view[i] != VIEW_OF(i) -> tell_view(i); again = 1
    :: else
    fi;
    if
    :: attempt[i] == VIEW_OF(i)
    :: else ->
        if
        :: STANDS(i) -> attempt[i] = VIEW_OF(i); again = 1
        :: else ->
            all_have_view(i);
            if
            :: yes ->
                all_complete(i);
#ifdef NO_RETRY
                yes = 1;
#endif
                if
                :: yes -> attempt[i] = VIEW_OF(i)
                :: else -> forget_attempt(i)
                fi;
                again = 1
            :: else
            fi
        fi
    fi
}

inline find_irreparable(i) {
    irreparable[i] = 1;
    for (k : 0 .. 2) {
        if
        :: TELLS(i, k) -> POST(i, k, IRREPARABLE, generation[i], 0, 0)
        :: else
        fi
    }
}

/* YES: what SEEN has of the living replicas is each microbatch once. ALL_SAID: so they have said. */
inline is_exactly_once(i) {
    yes = 1; x = 0; all_said = 1;
    for (k : 0 .. 2) {
        if
        :: SEES(i, k) ->
            if
            :: !(seen[k] & 8) -> yes = 0; all_said = 0
            :: (seen[k] & 8) && (seen[k] & 7 & x) -> yes = 0
            :: else
            fi;
            x = x | (seen[k] & 7)
        :: else
        fi
    };
    yes = yes && x == ALL
}

inline begin_exchange(i) {
    if
    :: phase[i] == TRAINING && attempt[i] == VIEW_OF(i) && known[i].view[i] == VIEW_OF(i) ->
        if
        :: lost[i] == 0 -> yes = 1
        :: else ->
            if
            :: known[i].counted[i] != 8 + holds[i] -> tell_view(i)
            :: else
            fi;
            for (k : 0 .. 2) {
                seen[k] = (known[i].view[k] == VIEW_OF(i) -> known[i].counted[k] : 0)
            };
            is_exactly_once(i);
            if
            :: all_said && !yes && x == ALL && !irreparable[i] -> find_irreparable(i); yes = 0
            :: else
            fi
        fi;
        if
        :: yes -> phase[i] = EXCHANGING; known[i].here[i] = 8 + holds[i]; again = 1
        :: else
        fi
    :: else
    fi
}

inline send_contributions(i) {
    if
    :: (phase[i] == EXCHANGING || phase[i] == COLLECTING) && attempt[i] == VIEW_OF(i) ->
        for (k : 0 .. 2) {
            if
            :: TELLS(i, k) && !(sent[i] & BIT(k)) && known[i].view[k] == VIEW_OF(i) ->
                sent[i] = sent[i] | BIT(k);
                POST(i, k, CONTRIBUTION, VIEW_OF(i), 0, known[i].here[i])
            :: else
            fi
        }
    :: else
    fi
}

inline end_exchange(i) {
    if
    :: phase[i] == EXCHANGING && attempt[i] == VIEW_OF(i) ->
        for (k : 0 .. 2) { seen[k] = known[i].here[k] };
        is_exactly_once(i);
        if
        :: all_said && !yes && !irreparable[i] -> find_irreparable(i); again = 1
        :: all_said && yes ->
            phase[i] = COLLECTING;
            known[i].shares = known[i].shares | BIT(i);
            for (k : 0 .. 2) {
                if
                :: TELLS(i, k) -> POST(i, k, REDUCED, VIEW_OF(i), 0, 0)
                :: else
                fi
            };
            again = 1
        :: else
        fi
    :: else
    fi
}

inline end_collection(i) {
    if
    :: phase[i] == COLLECTING && attempt[i] == VIEW_OF(i) && !irreparable[i] &&
       (known[i].shares | lost[i]) == ALL ->
        phase[i] = COMPLETED;
        known[i].complete[i] = attempt[i];
        sent[i] = 0;
        known[i].shares = 0;
        for (k : 0 .. 2) { known[i].here[k] = 0 };
        for (k : 0 .. 2) {
            if
            :: TELLS(i, k) -> POST(i, k, COMPLETE, VIEW_OF(i), known[i].complete[i], 0)
            :: else
            fi
        };
        again = 1
    :: else
    fi
}

#define IS_FIRST(i) ((lost[i] & (BIT(i) - 1)) == BIT(i) - 1)

inline become_durable(i) {
    if
    :: phase[i] == COMPLETED && attempt[i] == VIEW_OF(i) ->
        all_complete(i);
#ifdef NO_WAIT
        yes = 1;
#endif
        yes = yes && !(lost[i] & ~confirmed[i]);
        if
        :: yes || SOMEBODY_STEPPED(i) ->
            phase[i] = DURABLE;
            again = 1;
            if
            :: IS_FIRST(i) -> POST(i, RECORDER, NORM, generation[i], known[i].complete[i], 0)
            :: else
            fi
        :: else
        fi
    :: else
    fi
}

inline note_step(sum) {
    assert(sum_of_step == NO_VIEW || sum_of_step == sum); /* all step with the same sum */
    sum_of_step = sum;
    for (k : 0 .. 2) { /* who steps, steps when all have what they need to follow */
        assert(!(living & ~suspected & BIT(k)) || known[k].complete[k] == sum)
    }
}

inline step(i) {
    if
    :: phase[i] == DURABLE && norm_of_others[i] == 1 + generation[i] ->
        phase[i] = STEPPED;
        for (k : 0 .. 2) { known[i].counted[k] = 0 };
        note_step(known[i].complete[i])
    :: else
    fi
}

inline report_irreparable(i) {
    if
    :: irreparable[i] && !irreparable_told[i] && phase[i] < COMPLETED &&
       attempt[i] == VIEW_OF(i) ->
        irreparable_told[i] = 1;
        POST(i, RECORDER, IRREPARABLE, generation[i], 0, 0)
    :: else
    fi
}

/* What has become possible. */
inline advance(i) {
    again = 1;
    do
    :: again ->
        again = 0;
        follow_view(i);
        begin_exchange(i);
        send_contributions(i);
        end_exchange(i);
        end_collection(i);
        become_durable(i)
    :: else -> break
    od;
    step(i);
    report_irreparable(i)
}

/* All that was done is void. */
inline begin_generation(i, which) {
    if
    :: which > generation[i] && phase[i] < STEPPED ->
        generation[i] = which;
        irreparable[i] = 0;
        irreparable_told[i] = 0;
        holds[i] = BIT(i);
        forget_attempt(i)
    :: else
    fi
}

inline end_node(i) {
    living = living & ~BIT(i);
    suspected = suspected | BIT(i);
    for (k : 0 .. 3) { drain(k, i) }
    phase[i] = 0; generation[i] = 0; lost[i] = 0; confirmed[i] = 0; attempt[i] = 0; holds[i] = 0;
    sent[i] = 0; norm_of_others[i] = 0; irreparable[i] = 0; irreparable_told[i] = 0;
    known[i].shares = 0; known[i].stepped = 0;
    for (k : 0 .. 2) {
        known[i].view[k] = 0; known[i].complete[k] = 0; known[i].counted[k] = 0;
        known[i].here[k] = 0
    }
}

/* I takes J for lost. */
inline lose(i, j) {
    lost[i] = lost[i] | BIT(j);
    suspected = suspected | BIT(j);
    drain(j, i);
    if
    :: living & BIT(j) -> POST(i, j, FENCED, 0, 0, 0)
    :: else
    fi;
    if
    :: phase[i] >= DURABLE && IS_FIRST(i) && (lost[i] & ~BIT(j) & (BIT(i) - 1)) != BIT(i) - 1 ->
        POST(i, RECORDER, NORM, generation[i], known[i].complete[i], 0)
    :: else
    fi
}

inline find_lost(i, j) {
    lose(i, j);
    POST(i, RECORDER, DOWN, j, 0, 0)
}

inline recorder_loses(j) {
    if
    :: recorder_lost & BIT(j)
    :: else ->
        recorder_lost = recorder_lost | BIT(j);
        suspected = suspected | BIT(j);
        number++;
        answered = 0;
        drain(j, RECORDER);
        if
        :: living & BIT(j) -> POST(RECORDER, j, FENCED, 0, 0, 0)
        :: else
        fi;
        for (k : 0 .. 2) {
            if
            :: !(recorder_lost & BIT(k)) && (living & BIT(k)) ->
                POST(RECORDER, k, DOWN, j, number, 0)
            :: else
            fi
        }
    fi
}

inline confirm() {
    if
    :: (answered | recorder_lost) == ALL && recorder_confirmed != recorder_lost ->
        recorder_confirmed = recorder_lost;
        for (k : 0 .. 2) {
            if
            :: !(recorder_lost & BIT(k)) && (living & BIT(k)) ->
                POST(RECORDER, k, CONFIRMED, recorder_confirmed, 0, 0)
            :: else
            fi
        }
    :: else
    fi
}

inline restart() {
    recorder_generation++;
    assert(recorder_generation == 1);
    recorder_durable = 0;
    norm_of_stage = NO_VIEW;
    for (k : 0 .. 2) {
        if
        :: !(recorder_lost & BIT(k)) && (living & BIT(k)) ->
            POST(RECORDER, k, RESTART, recorder_generation, 0, 0)
        :: else
        fi
    }
}

inline recorder_step() {
    if
    :: norm_of_stage != NO_VIEW && recorder_durable && !recorder_stepped ->
        recorder_stepped = 1;
        note_step(norm_of_stage)
    :: else
    fi
}

inline take_at_recorder(i) {
    if
    :: wire[4 * i + RECORDER]?IRREPARABLE(a, _, _) ->
        if
        :: a == recorder_generation && !recorder_stepped -> restart()
        :: else
        fi
    :: wire[4 * i + RECORDER]?DOWN(a, _, _) -> recorder_loses(a)
    :: wire[4 * i + RECORDER]?KNOWN(a, _, _) ->
        if
        :: a == number -> answered = answered | BIT(i); confirm()
        :: else
        fi
    :: wire[4 * i + RECORDER]?NORM(a, b, _) ->
        if
        :: a == recorder_generation -> norm_of_stage = b; recorder_step()
        :: else
        fi
    fi
}

inline take_from_recorder(i) {
    if
    :: wire[4 * RECORDER + i]?NORM(a, _, _) ->
        begin_generation(i, a);
        norm_of_others[i] = 1 + a
    :: wire[4 * RECORDER + i]?RESTART(a, _, _) -> begin_generation(i, a)
    :: wire[4 * RECORDER + i]?DOWN(a, b, _) ->
        if
        :: SEES(i, a) -> lose(i, a)
        :: else
        fi;
        POST(i, RECORDER, KNOWN, b, 0, 0)
    :: wire[4 * RECORDER + i]?CONFIRMED(a, _, _) -> confirmed[i] = confirmed[i] | a
    :: wire[4 * RECORDER + i]?FENCED(_, _, _) -> end_node(i)
    fi
}

#define IS_OF_NOW(i) (a == VIEW_OF(i) && known[i].view[i] == VIEW_OF(i))

inline take(i, j) {
    if
    :: wire[4 * j + i]?VIEW(a, b, d) ->
        known[i].view[j] = a;
        known[i].complete[j] = b;
        known[i].counted[j] = d & 15;
        if
        :: d & 16 -> known[i].stepped = known[i].stepped | BIT(j)
        :: else
        fi
    :: wire[4 * j + i]?COMPLETE(a, b, _) ->
        known[i].counted[j] = (known[i].view[j] == a -> known[i].counted[j] : 0);
        known[i].view[j] = a;
        known[i].complete[j] = b
    :: wire[4 * j + i]?CONTRIBUTION(a, _, d) ->
        begin_generation(i, a / 8);
        if
        :: IS_OF_NOW(i) && phase[i] <= EXCHANGING && known[i].here[j] == 0 ->
            known[i].here[j] = d;
            known[i].counted[j] = (lost[i] -> d : 0) /* none is asked for before a loss */
        :: else
        fi
    :: wire[4 * j + i]?REDUCED(a, _, _) ->
        begin_generation(i, a / 8);
        if
        :: IS_OF_NOW(i) && a == attempt[i] &&
           (phase[i] == EXCHANGING || phase[i] == COLLECTING) ->
            known[i].shares = known[i].shares | BIT(j)
        :: else
        fi
    :: wire[4 * j + i]?IRREPARABLE(a, _, _) ->
        begin_generation(i, a);
        if
        :: a == generation[i] -> irreparable[i] = 1
        :: else
        fi
    :: wire[4 * j + i]?FENCED(_, _, _) -> end_node(i)
    fi
}

inline go_on(i) {
    if
    :: living & BIT(i) -> advance(i)
    :: else
    fi
}

#define HAS(i) ((living & ~suspected & BIT(i)) && generation[i] == recorder_generation -> holds[i] : 0)
#define HELD (HAS(0) | HAS(1) | HAS(2))

/* A microbatch that only lost nodes had is done again by a replica that still takes it. */
inline repair(i) {
    holds[i] = holds[i] | (ALL & ~HELD & (-(ALL & ~HELD)))
}

#define CAN_REPAIR(i) (suspected && HELD != ALL && (living & ~suspected & BIT(i)) && \
                       phase[i] < COMPLETED && generation[i] == recorder_generation)
#define ENDED(i) (!(living & BIT(i)) || phase[i] == STEPPED)

proctype replica(byte i; byte j; byte l) {
end:
    do
    :: d_step { CAN_REPAIR(i) -> repair(i); go_on(i); x = 0 }
    :: d_step { (living & BIT(i)) && nempty(wire[4 * RECORDER + i]) ->
                take_from_recorder(i); go_on(i); x = 0 }
    :: d_step { (living & BIT(i)) && nempty(wire[4 * j + i]) -> take(i, j); go_on(i); x = 0 }
    :: d_step { (living & BIT(i)) && nempty(wire[4 * l + i]) -> take(i, l); go_on(i); x = 0 }
    :: d_step { (living & BIT(i)) && crashes < CRASHES -> crashes++; end_node(i); x = 0 }
    :: d_step { (living & BIT(i)) && SEES(i, j) && !(living & BIT(j)) ->
                find_lost(i, j); go_on(i); x = 0 }
    :: d_step { (living & BIT(i)) && SEES(i, l) && !(living & BIT(l)) ->
                find_lost(i, l); go_on(i); x = 0 }
    od
}

proctype recorder() {
end:
    do
    :: d_step { nempty(wire[RECORDER]) -> take_at_recorder(0); x = 0 }
    :: d_step { nempty(wire[4 + RECORDER]) -> take_at_recorder(1); x = 0 }
    :: d_step { nempty(wire[8 + RECORDER]) -> take_at_recorder(2); x = 0 }
    :: d_step { ALL & ~living & ~recorder_lost ->
                a = 0;
                do
                :: ~living & ~recorder_lost & BIT(a) -> break
                :: else -> a++
                od;
                recorder_loses(a);
                confirm(); x = 0 }
    :: d_step { !recorder_durable ->
        recorder_durable = 1;
        for (k : 0 .. 2) {
            if
            :: !(recorder_lost & BIT(k)) && (living & BIT(k)) ->
                POST(RECORDER, k, NORM, recorder_generation, 0, 0)
            :: else
            fi
        };
        recorder_step(); x = 0 }
    od
}

init {
    d_step {
        for (k : 0 .. 2) {
            holds[k] = BIT(k);
            for (x : 0 .. 2) { known[k].complete[x] = NO_VIEW }
        };
        a = 0;
        do
        :: a < 3 -> advance(a); a++
        :: else -> break
        od;
        x = 0
    };
    atomic { run replica(0, 1, 2); run replica(1, 0, 2); run replica(2, 0, 1); run recorder() };
    timeout -> assert(living == 0 || (ENDED(0) && ENDED(1) && ENDED(2) && recorder_stepped)) /* nobody waits */
}
