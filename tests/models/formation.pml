/* How a group that spans two nodes is formed, and how it fails: docs/adr/0014. It models Seed,
   Coordinator and Cluster of daemon/cluster, over the links that peers.h promises.

   Node 0 has the lowest rank, so it coordinates; node 1 has the other rank. The seed introduces
   them to each other. Each rank joins at most ROUNDS times; a join ends when its rank is told that
   the group is ready, or why it is not. A ready group ends when its nodes learn that it has failed.

   Modelled: the seed is restarted and forgets everything; deadlines pass at any moment; ranks leave
   at any moment; the link between the nodes breaks, which loses what is on it, and which each side
   notices at some later time of its own. Entered, Meet and Connected are one message here (enter):
   between them a node only waits. A name that is in use is not challenged: who wants it waits.

   Checked: no wait for ever, no split group, fencing; and that nobody waits in vain, who could be in
   a group. Planted faults, each of which makes it fail:
   -DNO_FENCE      a node takes what is said of another epoch for its own
   -DNO_ENTER      the coordinator does not wait for the other node
   -DNO_BREAK      only the coordinator notices that a link has broken
   -DLATE_BREAK    a new connection is used before both sides have noticed the end of the old one
   -DNO_OVER       the seed does not say that an epoch has ended before it was live

   tests/models/test_models.py runs it. */

#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef BREAKS
#define BREAKS 1
#endif
#ifndef SEED_RESTARTS
#define SEED_RESTARTS 1
#endif

#define COORDINATOR 0
#define OTHER 1
#define NONE 0

/* What a node does with the seat of its rank. */
mtype = { idle, offered, entered, ready };
/* What is said. offer: to the seed. over: by it, to who has offered. roster: by the seed to the
   coordinator, by that to the other. enter, left: to the coordinator. live, failed: by the
   coordinator, to the other and to the seed. */
mtype = { offer, over, roster, enter, left, live, failed };

mtype state[2] = idle;
byte epoch[2];          /* of the group that a node has entered */
byte joins[2];          /* how often the rank has joined */
byte answers[2];        /* and has been told what became of it */
int has_entered[2];     /* a bit for each epoch that a node has ever entered */

byte known_over[2];     /* the newest epoch that a node knows to be over */

/* A roster says which joins it is of: of each node, how many there had been. */
typedef Roster { byte join[2] };
Roster rosters[8];
#define is_of_this_join(n, which) \
  (state[n] == offered && rosters[which].join[n] == joins[n] && known_over[n] != which)

/* The seed's soft state. Epochs are random numbers, which never repeat, whatever is forgotten. */
byte offer_of[2];        /* the join of each node; 0: none */
byte in_use;             /* the epoch that has the name; 0: none */
byte introduced[2];      /* the joins that it has, until it is live */
bool reconnected[2];     /* a node has learned that the seed was restarted */
byte next_epoch = 1;
byte seed_restarts, breaks;

/* What is between the nodes was lost; a node has not noticed yet. */
bool broken[2];

/* Will the rank leave the group that is ready? */
bool leaves[2];

chan to_seed = [8] of { mtype, byte, byte, byte };  /* what, of node, join or epoch, known over */
chan from_seed[2] = [8] of { mtype, byte, byte };   /* what, the epoch, the join that is over */
chan link[2] = [8] of { mtype, byte };          /* to node n: what, of which epoch */

/* A new connection begins when both sides have noticed the end of the one before, and have ended
   what they had in common over that: no break is noticed late, and taken for one of the new. */
#ifdef LATE_BREAK
#define can_say(n) nfull(link[n])
#else
#define can_say(n) (nfull(link[n]) && !broken[0] && !broken[1])
#endif
#define waits(n) (state[n] == offered || state[n] == entered)
#define say(n, what, which) link[n] ! what, which
#define offer_to_seed(n) to_seed ! offer, n, joins[n], known_over[n]

inline end_seat(n) {
  /* The rank is told, once: either that its join has failed, or that its group has. */
  if
  :: waits(n) -> answers[n]++
  :: else
  fi;
  state[n] = idle;
  leaves[n] = false;
  if
  :: epoch[n] != NONE -> known_over[n] = epoch[n]
  :: else
  fi;
  epoch[n] = NONE
}

inline become_ready(n) {
  assert(state[n] == entered);
  state[n] = ready;
  answers[n]++;
  if
  :: leaves[n] = true
  :: leaves[n] = false
  fi;
  /* No split group: who is ready has been joined by the other, in the same epoch. */
  assert(has_entered[1 - n] & (1 << epoch[n]))
}

inline enter_epoch(n, which) {
  /* Fencing: nobody enters an epoch twice, however late it is told of it. */
  assert(which != NONE && !(has_entered[n] & (1 << which)));
  state[n] = entered;
  epoch[n] = which;
  has_entered[n] = has_entered[n] | (1 << which)
}

/* A rank leaves, or its deadline passes. */
inline give_up(n, what_to_say) {
  if
  :: state[n] != offered -> say(1 - n, what_to_say, epoch[n])
  :: else
  fi;
  end_seat(n)
}

/* Epoch in_use is over: who had been introduced is told, as they may not have heard of it. */
inline free_name() {
#ifndef NO_OVER
  if
  :: introduced[0] -> from_seed[0] ! over, in_use, introduced[0]
  :: else
  fi;
  if
  :: introduced[1] -> from_seed[1] ! over, in_use, introduced[1]
  :: else
  fi;
#endif
  introduced[0] = 0;
  introduced[1] = 0;
  in_use = NONE
}

inline introduce_if_complete() {
  if
  :: offer_of[0] && offer_of[1] && in_use == NONE ->
     rosters[next_epoch].join[0] = offer_of[0];
     rosters[next_epoch].join[1] = offer_of[1];
     introduced[0] = offer_of[0];
     introduced[1] = offer_of[1];
     offer_of[0] = 0;
     offer_of[1] = 0;
     in_use = next_epoch;
     from_seed[0] ! roster, next_epoch, 0;
     next_epoch++
  :: else
  fi
}

#define seed_can_say (len(from_seed[0]) < 7 && len(from_seed[1]) < 7)

active proctype seed() {
  mtype what;
  byte n, which, knows;
end:
  do
  :: atomic {
       seed_can_say && nempty(to_seed) ->
       to_seed ? what, n, which, knows;
       if
       :: what == offer ->
          if
          :: in_use != NONE && knows == in_use -> free_name()
          :: else
          fi;
          offer_of[n] = which
       :: what == roster && in_use == NONE -> in_use = which  /* it is told again */
       :: what == live && (in_use == which || in_use == NONE) ->
          in_use = which;
          introduced[0] = 0;
          introduced[1] = 0
       :: what == failed && in_use == which -> free_name()
       :: else
       fi;
       introduce_if_complete();
       what = 0;
       n = 0;
       which = 0;
       knows = 0
     }
  :: atomic {
       seed_restarts < SEED_RESTARTS ->
       seed_restarts++;
       offer_of[0] = 0;
       offer_of[1] = 0;
       introduced[0] = 0;
       introduced[1] = 0;
       in_use = NONE;
       /* The connections end: what is on them is lost. */
       do
       :: nempty(to_seed) -> to_seed ? what, n, which, knows
       :: nempty(from_seed[0]) -> from_seed[0] ? what, n, which
       :: nempty(from_seed[1]) -> from_seed[1] ? what, n, which
       :: empty(to_seed) && empty(from_seed[0]) && empty(from_seed[1]) -> break
       od;
       what = 0;
       n = 0;
       which = 0;
       knows = 0;
       reconnected[0] = true;
       reconnected[1] = true
     }
  od
}

/* The link breaks: what is on it is lost, and each side will notice. */
active proctype network() {
  mtype what;
  byte which;
end:
  do
  :: atomic {
       breaks < BREAKS ->
       breaks++;
       do
       :: nempty(link[0]) -> link[0] ? what, which
       :: nempty(link[1]) -> link[1] ? what, which
       :: empty(link[0]) && empty(link[1]) -> break
       od;
       what = 0;
       which = 0;
       broken[0] = true;
#ifndef NO_BREAK
       broken[1] = true
#endif
     }
  od
}

/* The epoch has come to nothing: a join that it had is offered once more, to be in another. Ready
   ranks are told that their group has failed. */
inline leave_epoch(n) {
  if
  :: state[n] == entered ->
     known_over[n] = epoch[n];
     epoch[n] = NONE;
     state[n] = offered;
     offer_to_seed(n)
  :: state[n] == ready -> end_seat(n)
  :: else
  fi
}

/* Room for what an event makes a node tell the seed. */
#define can_tell_seed (len(to_seed) <= 6)

active proctype coordinator() {
  mtype what;
  byte which, join;
end:
  do
  /* The rank joins. */
  :: atomic {
       state[0] == idle && joins[0] < ROUNDS && can_tell_seed ->
       joins[0]++;
       state[0] = offered;
       offer_to_seed(0)
     }
  /* The seed is there again: it is told once more. */
  :: atomic {
       reconnected[0] && can_tell_seed ->
       reconnected[0] = false;
       if
       :: state[0] == offered -> offer_to_seed(0)
       :: state[0] == entered -> to_seed ! roster, 0, epoch[0], NONE
       :: state[0] == ready -> to_seed ! live, 0, epoch[0], NONE
       :: else
       fi
     }
  :: atomic {
       can_say(1) && can_tell_seed && nempty(from_seed[0]) ->
       from_seed[0] ? what, which, join;
       if
       :: what == roster && is_of_this_join(0, which) ->
          enter_epoch(0, which);
          say(1, roster, which);
#ifdef NO_ENTER
          become_ready(0);
#endif
       :: what == roster && !is_of_this_join(0, which) ->
          say(1, failed, which);
          to_seed ! failed, 0, which, NONE
       :: what == over && state[0] == offered && joins[0] == join && known_over[0] != which ->
          known_over[0] = which;
          offer_to_seed(0)
       :: else
       fi;
       what = 0;
       which = NONE;
       join = 0
     }
  :: atomic {
       can_say(1) && can_tell_seed && nempty(link[0]) ->
       link[0] ? what, which;
       if
       :: what == enter && state[0] == entered && epoch[0] == which ->
          become_ready(0);
          say(1, live, which);
          to_seed ! live, 0, which, NONE
#ifdef NO_FENCE
       :: what == left && (state[0] == entered || state[0] == ready) ->
#else
       :: what == left && epoch[0] == which && which != NONE ->
#endif
          to_seed ! failed, 0, epoch[0], NONE;
          leave_epoch(0)
       :: else
       fi;
       what = 0;
       which = NONE
     }
  /* It notices that the link had broken: of no epoch can it know what became of it. */
  :: atomic {
       broken[0] && can_tell_seed ->
       broken[0] = false;
       if
       :: epoch[0] != NONE ->
          to_seed ! failed, 0, epoch[0], NONE;
          leave_epoch(0)
       :: else
       fi
     }
  od
}

active proctype other() {
  mtype what;
  byte which, join;
end:
  do
  :: atomic {
       state[1] == idle && joins[1] < ROUNDS && can_tell_seed ->
       joins[1]++;
       state[1] = offered;
       offer_to_seed(1)
     }
  :: atomic {
       reconnected[1] && can_tell_seed ->
       reconnected[1] = false;
       if
       :: state[1] == offered -> offer_to_seed(1)
       :: else
       fi
     }
  :: atomic {
       can_tell_seed && nempty(from_seed[1]) ->
       from_seed[1] ? what, which, join;
       if
       :: what == over && state[1] == offered && joins[1] == join && known_over[1] != which ->
          known_over[1] = which;
          offer_to_seed(1)
       :: else
       fi;
       what = 0;
       which = NONE;
       join = 0
     }
  :: atomic {
       can_say(0) && can_tell_seed && nempty(link[1]) ->
       link[1] ? what, which;
       if
       :: what == roster && is_of_this_join(1, which) ->
          enter_epoch(1, which);
          say(0, enter, which)
       :: what == roster && !is_of_this_join(1, which) -> say(0, left, which)
#ifdef NO_FENCE
       :: what == live && state[1] == entered -> become_ready(1)
       :: what == failed && (state[1] == entered || state[1] == ready) -> leave_epoch(1)
#else
       :: what == live && state[1] == entered && epoch[1] == which -> become_ready(1)
       :: what == failed && epoch[1] == which && which != NONE -> leave_epoch(1)
#endif
       :: else
       fi;
       what = 0;
       which = NONE
     }
  :: atomic {
       broken[1] && can_tell_seed ->
       broken[1] = false;
       leave_epoch(1)
     }
  od
}

/* The coordinator's rank leaves, or its deadline passes: the seed is told, too. */
inline coordinator_gives_up() {
  if
  :: epoch[0] != NONE -> to_seed ! failed, 0, epoch[0], NONE
  :: else
  fi;
  give_up(0, failed)
}

/* A rank leaves a ready group at some time, or never. */
active proctype user() {
end:
  do
  :: atomic { leaves[0] && state[0] == ready && can_say(1) && can_tell_seed -> coordinator_gives_up() }
  :: atomic { leaves[1] && state[1] == ready && can_say(0) -> give_up(1, left) }
  od
}

/* Joins have deadlines. They pass at any moment, and at some moment for sure. */
#ifndef NO_DEADLINES
active proctype deadline_of_coordinator() {
end:
  do
  :: atomic { waits(0) && can_say(1) && can_tell_seed -> coordinator_gives_up() }
  od
}

active proctype deadline_of_other() {
end:
  do
  :: atomic { waits(1) && can_say(0) -> give_up(1, left) }
  od
}
#endif

/* Two ready nodes are in one epoch. */
ltl one_epoch { [] (state[0] == ready && state[1] == ready -> epoch[0] == epoch[1]) }
/* Every join is answered. */
ltl answered { [] ((waits(0) -> <> !waits(0)) && (waits(1) -> <> !waits(1))) }
/* Who is ready alone does not stay so. */
#define alone(n) (state[n] == ready && epoch[1 - n] != epoch[n])
ltl not_alone { [] ((alone(0) -> <> !alone(0)) && (alone(1) -> <> !alone(1))) }
/* Nobody waits in vain: two that offer will be in an epoch, one that has entered learns what became
   of it. Without deadlines (-DNO_DEADLINES), which would end every wait. */
ltl in_vain { [] ((state[0] == offered && state[1] == offered ->
                   <> !(state[0] == offered && state[1] == offered)) &&
                  (state[0] == entered -> <> (state[0] != entered)) &&
                  (state[1] == entered -> <> (state[1] != entered))) }
