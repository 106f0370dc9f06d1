/* How a live group that spans three nodes ends, and what its ranks are told: docs/adr/0014. It
   models Coordinator and the end of an epoch in Cluster (daemon/cluster), over the links that
   peers.h promises.

   Node 0 coordinates, and is a member like 1 and 2, over a link of its own that never breaks. Ranks
   die, deadlines pass, communicators fail and ranks leave at any moment; links break, which loses
   what is on them, and which each side notices at some later time of its own.

   Checked: all who are told by the coordinator are told the same; once something has gone wrong,
   everybody is told, in whatever order things happen; nobody is told of nothing. Planted faults:
   -DECHO           who reports a failure is told of that one
   -DCLOSE_IS_END   when a rank has left, the coordinator takes no more reports
   -DWAIT_FOR_LOST  who is cut off from the coordinator waits
   -DASK_THE_LOST   when a deadline has passed, nodes that are lost are waited for as well
   -DHASTY          when one node has gone, it does not wait for the others

   tests/models/test_models.py runs it. */

#ifndef TROUBLES
#define TROUBLES 2
#endif
#ifndef BREAKS
#define BREAKS 1
#endif

#define NODES 3
/* What a member is told. Other numbers are failures, each with one of its own. */
#define NOTHING 0
#define LOST_NODE 20 /* and which */
#define ALL_LEFT 30
#define CUT_OFF 31

/* To the coordinator: a rank has died; a deadline has passed; the communicator has failed; a rank
   has left; the last rank has; who has not arrived. By it: the last word; that a rank has left, and
   what it had submitted goes on; who has not arrived? */
mtype = { died, expired, broke, left, gone, answer, ended, closed, inquiry };

byte told[NODES];
bool has_left[NODES];
byte troubles, breaks;
bool trouble;          /* something has gone wrong that concerns all */
bool says_gone[NODES];

/* Each link carries little: a member says each thing once. */
chan up[NODES] = [6] of { mtype, byte };
chan down[NODES] = [6] of { mtype, byte };
bool cut[NODES];       /* the link to the coordinator has broken */
bool noticed[NODES];   /* by the coordinator */
bool cut_between;      /* the one between 1 and 2 */

/* The coordinator's. */
bool over, asking, suspects, is_closed;
byte asked_for, suspected;
bool lost[NODES], is_gone[NODES], has_answered[NODES];

#define say_up(n, what, which) \
  if \
  :: cut[n] \
  :: else -> up[n] ! what, which \
  fi

inline say_down(n, what, which) {
  if
  :: lost[n] || cut[n]
  :: else -> down[n] ! what, which
  fi
}

inline say_to_all(what, which) {
  say_down(0, what, which);
  say_down(1, what, which);
  say_down(2, what, which)
}

inline end_with(which) {
  over = true;
  asking = false;
  suspects = false;
  say_to_all(ended, which)
}

#define need_not_answer(n) (has_answered[n] || lost[n] || is_gone[n])
#ifdef ASK_THE_LOST
#define all_have_answered (has_answered[0] && has_answered[1] && has_answered[2])
#else
#define all_have_answered (need_not_answer(0) && need_not_answer(1) && need_not_answer(2))
#endif
#ifdef HASTY
#define all_are_gone (is_gone[0] || is_gone[1] || is_gone[2])
#else
#define all_are_gone \
  ((is_gone[0] || lost[0]) && (is_gone[1] || lost[1]) && (is_gone[2] || lost[2]))
#endif

#ifdef CLOSE_IS_END
#define takes_reports (!over && !asking && !is_closed)
#else
#define takes_reports (!over && !asking)
#endif

inline conclude_if_answered() {
  if
  :: asking && all_have_answered -> end_with(asked_for)
  :: else
  fi
}

inline end_if_all_gone() {
  if
  :: !over && all_are_gone -> end_with(ALL_LEFT)
  :: else
  fi
}

/* Coordinator::Heard, for what a member says. */
inline hear(n, what, which) {
  if
  :: what == gone ->
     is_gone[n] = true;
     end_if_all_gone()
  :: what == answer && asking ->
     has_answered[n] = true;
     conclude_if_answered()
  :: what != gone && what != answer && takes_reports ->
     if
     :: what == left ->
        is_closed = true;
        say_to_all(closed, NOTHING)
     :: what == expired ->
        asking = true;
        asked_for = which;
        say_to_all(inquiry, NOTHING)
     /* What a communicator says is kept back: there may be a better reason. */
     :: what == broke && !suspects ->
        suspects = true;
        suspected = which
     :: what == died ->
#ifdef ECHO
        say_down(n, ended, which);
#else
        end_with(which)
#endif
     :: else
     fi
  :: else
  fi
}

inline lose(n) {
  lost[n] = true;
  if
  :: over
  :: !over && asking -> conclude_if_answered()
  :: !over && !asking && is_gone[n] /* nobody needs it */
  :: else -> end_with(LOST_NODE + n)
  fi
}

active proctype coordinator() {
  mtype what;
  byte n, which;
end:
  do
  :: atomic { nempty(up[0]) -> up[0] ? what, which; hear(0, what, which); what = 0; which = 0 }
  :: atomic { nempty(up[1]) -> up[1] ? what, which; hear(1, what, which); what = 0; which = 0 }
  :: atomic { nempty(up[2]) -> up[2] ? what, which; hear(2, what, which); what = 0; which = 0 }
  :: atomic { cut[1] && !noticed[1] -> noticed[1] = true; lose(1) }
  :: atomic { cut[2] && !noticed[2] -> noticed[2] = true; lose(2) }
  :: atomic { suspects && !asking && !over -> end_with(suspected) }
  od
}

/* Something goes wrong here, and this is its number. */
inline go_wrong(n, what, kind) {
  troubles++;
  trouble = true;
  say_up(n, what, 1 + 3 * n + kind)
}

proctype member(byte n) {
  mtype what;
  byte which;
  bool knows_other_is_lost;
  bool stays; /* it never leaves by itself */
  if
  :: n == 2 -> stays = true
  :: true
  fi;
end:
  do
  :: atomic { told[n] == NOTHING && !has_left[n] && troubles < TROUBLES -> go_wrong(n, died, 0) }
  :: atomic { told[n] == NOTHING && !has_left[n] && troubles < TROUBLES -> go_wrong(n, expired, 1) }
  :: atomic { told[n] == NOTHING && !says_gone[n] && troubles < TROUBLES -> go_wrong(n, broke, 2) }
  :: atomic {
       told[n] == NOTHING && !has_left[n] && !stays ->
       has_left[n] = true;
       say_up(n, left, NOTHING)
     }
  /* What it had submitted has ended. */
  :: atomic {
       told[n] == NOTHING && has_left[n] && !says_gone[n] ->
       says_gone[n] = true;
       say_up(n, gone, NOTHING)
     }
  :: atomic {
       nempty(down[n]) ->
       down[n] ? what, which;
       if
       /* The epoch is forgotten with the last word, and what is said of it later is ignored. */
       :: told[n] == NOTHING && what == ended -> told[n] = which
       :: told[n] == NOTHING && what == inquiry -> say_up(n, answer, NOTHING)
       :: else
       fi;
       what = 0;
       which = 0
     }
#ifndef WAIT_FOR_LOST
  :: atomic { cut[n] && told[n] == NOTHING -> told[n] = CUT_OFF }
#endif
  /* What had been said of transfers is lost. */
  :: atomic {
       n > 0 && cut_between && !knows_other_is_lost && told[n] == NOTHING ->
       knows_other_is_lost = true;
       say_up(n, died, LOST_NODE + 3 - n)
     }
  od
}

/* A link breaks: what is on it is lost, and each side will notice. */
active proctype network() {
  mtype what;
  byte n, which;
end:
  do
  :: atomic {
       breaks < BREAKS ->
       breaks++;
       if
       :: n = 1
       :: n = 2
       :: n = 0 /* between the two */
       fi;
       if
       :: n == 0 ->
          cut_between = true;
          trouble = true
       :: else ->
          cut[n] = true;
          /* Nobody needs a node whose ranks have left. */
          trouble = trouble || !says_gone[n];
          do
          :: nempty(up[n]) -> up[n] ? what, which
          :: nempty(down[n]) -> down[n] ? what, which
          :: empty(up[n]) && empty(down[n]) -> break
          od
       fi;
       what = 0;
       which = 0;
       n = 0
     }
  od
}

init {
  atomic {
    run member(0);
    run member(1);
    run member(2)
  }
}

#define by_coordinator(n) (told[n] != NOTHING && told[n] != CUT_OFF)
#define alike(a, b) (!by_coordinator(a) || !by_coordinator(b) || told[a] == told[b])
#define all_told (told[0] != NOTHING && told[1] != NOTHING && told[2] != NOTHING)
#define none_told (told[0] == NOTHING && told[1] == NOTHING && told[2] == NOTHING)
#define all_left (has_left[0] && has_left[1] && has_left[2])

/* Nobody waits for ever. Every step uses up something, so each execution ends; in the end all have
   been told. */
active proctype the_end() {
  timeout -> assert(all_told || !(trouble || all_left))
}

/* Whom the coordinator has told, it has told the same. */
ltl one_verdict { [] (alike(0, 1) && alike(0, 2) && alike(1, 2)) }
/* Nobody is told without a reason. */
ltl a_reason { [] (trouble || breaks > 0 || all_left || none_told) }
