/* A model of the task board (task_board.hpp) for spin: every interleaving of one owner with two workers that may be killed
 * between any two of their steps, tasks that are cancelled, and tasks that are tried again. tests/model checks it.
 *
 * What is modelled, step by step as in task_board.cpp: the state word of a slot with its generation; the line, whose places are
 * the commit point of a post; `head`, a hint that anybody moves on; a worker's `intent`, written before its claim; publish; the
 * owner's use of a slot again; bury() by the supervisor: intent, then what the slot says. Memory is sequentially consistent: what the C++
 * orders by release and acquire is taken as ordered, so this says nothing about fences. Waking is not modelled: workers look again.
 *
 * Properties. Each was seen to fail with the change named, made by `-D`:
 *   P1  a task is never run by two workers at a time, nor again after its outcome.       BREAK_CLAIM      claim without compare-exchange
 *   P2  a task runs once, and once more only where its worker died with it and it may
 *       be tried again.                                                                  BREAK_BURY       bury() posts again what was done
 *   P3  a task has exactly one outcome, and it is its own: a value only if a run ended,
 *       a crash only if a worker died with it, cancelled only if it never ran.             BREAK_CANCEL     cancel without compare-exchange
 *   P4  when all has come to rest, every task has its outcome: no task is lost,
 *       wherever the workers died.                                                       BREAK_INTENT     intent written after the claim
 *   P5  a place in line that is read late names nothing: who claims by it gets the
 *       task that was posted there.                                                      BREAK_GENERATION claim by slot alone
 */

#ifndef TASKS
#define TASKS   3               /* tasks in all; the first may be cancelled */
#endif
#define RETRIED 1               /* the one that may be tried again */
#define SLOTS   2               /* so that a slot is used again */
#define WORKERS 2
#ifndef DEATHS
#define DEATHS  1               /* at most so many kills; each dead worker is replaced */
#endif
#define PLACES  (TASKS + DEATHS)

#define FREE 0
#define POSTED 1
#define CLAIMED 2
#define DONE 3
#define CANCELLED 4

#define NONE 255

#define VALUE 1
#define CRASH 2
#define GONE  3                 /* cancelled */

/* A slot's state word: all of it changes in one step. */
typedef Word { byte phase; byte worker; byte generation }
Word slot[SLOTS];
byte result[SLOTS];             /* written by the worker before it publishes, or by the owner */
byte task_in[SLOTS];            /* which task the owner put there: its arguments */
byte attempts[SLOTS];           /* left */

/* The line: slot + 1, 0 = not yet. */
byte place[PLACES];
byte place_generation[PLACES];
byte place_task[PLACES];        /* ghost: which task was posted there */
byte tail = 0;
byte head = 0;

/* A worker's entry: slot + 1 and generation, written in one step. */
byte intent[WORKERS];
byte intent_generation[WORKERS];
bool dead[WORKERS];
byte deaths = 0;
byte running[WORKERS];          /* ghost: which task it runs */

/* Ghosts: what really happened to each task. */
byte runs[TASKS];
byte ended[TASKS];              /* runs that came to their end */
byte died[TASKS];               /* workers that died with it: after their claim, before they published */
byte outcomes[TASKS];
byte outcome[TASKS];
byte allowed[TASKS];            /* runs */
bool closing = false;

inline die_maybe() {
  if
  :: atomic { deaths < DEATHS -> deaths++; goto killed }
  :: true
  fi
}

proctype Worker(byte me) {
  byte at, s, g, t;
  bool mine;

again:
  do
  :: closing -> goto left
  /* Something may be in line; else it sleeps, and looks again when something was put there. */
  :: d_step { head < PLACES && place[head] != 0 -> at = head };
     d_step { s = place[at] - 1; g = place_generation[at] };  /* one word */
     if
#ifdef BREAK_GENERATION
     :: d_step { slot[s].phase == POSTED -> g = slot[s].generation }
#else
     :: slot[s].phase == POSTED && slot[s].generation == g ->
#endif
#ifndef BREAK_INTENT
        die_maybe();
        d_step { intent[me] = s + 1; intent_generation[me] = g };
#endif
        die_maybe();
        d_step {                /* compare-exchange */
          if
#ifdef BREAK_CLAIM
          :: true ->
#else
          :: slot[s].phase == POSTED && slot[s].generation == g ->
#endif
             slot[s].phase = CLAIMED; slot[s].worker = me; mine = true
          :: else -> skip
          fi
        };
#ifdef BREAK_INTENT
        if
        :: mine -> die_maybe(); d_step { intent[me] = s + 1; intent_generation[me] = g }
        :: else -> skip
        fi
#endif
     :: else -> skip
     fi;
     die_maybe();
     /* Whoever finds the hint behind moves it on. */
     d_step {
       if
       :: head == at -> head = at + 1
       :: else -> skip
       fi
     };
     if
     :: mine ->
        die_maybe();
        d_step {
          t = task_in[s];
          assert(outcomes[t] == 0);                               /* P1 */
          assert(running[1 - me] != t + 1 || dead[1 - me]);       /* P1 */
          assert(place_task[at] == t);                            /* P5 */
          running[me] = t + 1;
          runs[t]++;
          assert(runs[t] <= allowed[t] && runs[t] <= 1 + died[t]) /* P2 */
        };
        die_maybe();
        d_step { result[s] = VALUE; ended[t]++; running[me] = 0 };
        die_maybe();
        d_step { slot[s].phase = DONE; slot[s].worker = 0 };      /* publish: one exchange */
        die_maybe()
     :: else -> skip
     fi;
     d_step { at = 0; s = 0; g = 0; t = 0; mine = false }         /* keeps states few */
  od;

killed:
  atomic {
    if
    :: slot[0].phase == CLAIMED && slot[0].worker == me -> died[task_in[0]]++
    :: else -> skip
    fi;
    if
    :: slot[1].phase == CLAIMED && slot[1].worker == me -> died[task_in[1]]++
    :: else -> skip
    fi;
    running[me] = 0;
    at = 0; s = 0; g = 0; t = 0; mine = false;
    dead[me] = true
  };
  if
  :: atomic { !dead[me]; goto again }  /* buried: another one takes its place */
  :: closing
  fi;
left:
  skip
}

/* Puts a filled slot in line. */
inline put_in_line(s) {
  d_step {                      /* one store, the commit point; tail is the owner's own */
    assert(tail < PLACES);
    place[tail] = s + 1;
    place_generation[tail] = slot[s].generation;
    place_task[tail] = task_in[s];
    tail++
  }
}

/* What the supervisor does when it learns of a death; then a new worker comes. Nobody but it changes what a dead worker had. */
inline bury(w) {
  if
  :: intent[w] != 0 ->
     bs = intent[w] - 1;
     if
     :: slot[bs].generation == intent_generation[w] &&
#ifdef BREAK_BURY
        (slot[bs].phase == CLAIMED && slot[bs].worker == w || slot[bs].phase == DONE) ->
#else
        slot[bs].phase == CLAIMED && slot[bs].worker == w ->
#endif
        if
        :: attempts[bs] > 0 ->
           attempts[bs]--;
           d_step { slot[bs].phase = POSTED; slot[bs].worker = 0 };
           put_in_line(bs)
        :: else ->
           result[bs] = CRASH;
           d_step { slot[bs].phase = DONE; slot[bs].worker = 0 }
        fi
     :: else -> skip
     fi
  :: else -> skip
  fi;
  d_step { intent[w] = 0; intent_generation[w] = 0; bs = 0; dead[w] = false }
}

/* The owner sees that a slot is done: the task has its outcome, the slot is free again with a new generation. */
inline collect(s) {
  d_step {
    ct = task_in[s];
    outcomes[ct]++;
    assert(outcomes[ct] == 1);                                           /* P3 */
    if
    :: slot[s].phase == CANCELLED -> outcome[ct] = GONE; assert(runs[ct] == 0)          /* P3 */
    :: slot[s].phase == DONE && result[s] == VALUE -> outcome[ct] = VALUE; assert(ended[ct] > 0)  /* P3 */
    :: slot[s].phase == DONE && result[s] == CRASH -> outcome[ct] = CRASH; assert(died[ct] > 0)    /* P3 */
    fi;
    slot[s].generation++;
    slot[s].phase = FREE;
    result[s] = 0;
    ct = 0
  }
}

proctype Owner() {
  byte next = 0, settled = 0, s, bs, ct;
  do
  :: settled == TASKS -> break
  /* Post the next task in a free slot: the last may be tried again. */
  :: next < TASKS && (slot[0].phase == FREE || slot[1].phase == FREE) ->
     d_step {
       s = (slot[0].phase == FREE -> 0 : 1);
       task_in[s] = next;
       attempts[s] = (next == RETRIED -> 1 : 0);
       allowed[next] = 1 + attempts[s];
       next++
     };
     d_step { slot[s].phase = POSTED; slot[s].worker = 0 };
     put_in_line(s);
     s = 0
  /* Cancel the first. */
  :: next > 0 && slot[0].phase == POSTED && task_in[0] == 0 ->
#ifdef BREAK_CANCEL
     slot[0].phase = CANCELLED
#else
     d_step {
       if
       :: slot[0].phase == POSTED && task_in[0] == 0 -> slot[0].phase = CANCELLED
       :: else -> skip
       fi
     }
#endif
  :: slot[0].phase == DONE || slot[0].phase == CANCELLED -> collect(0); settled++
  :: slot[1].phase == DONE || slot[1].phase == CANCELLED -> collect(1); settled++
  :: dead[0] -> bury(0)
  :: dead[1] -> bury(1)
  od;
  closing = true                /* P4: else this is a state in which nobody can go on, which spin reports */
}

init {
  atomic {
    byte i;
    for (i : 0 .. WORKERS - 1) { run Worker(i) }
    run Owner()
  }
}

