/* How a group that spans two nodes is formed, and how it fails: docs/adr/0014. The code it models is
   not written yet; it will name it.

   Node 0 has the lowest rank, so it coordinates; node 1 has the other rank. The seed introduces
   them to each other. Each rank joins at most ROUNDS times; a join ends when its rank is told that
   the group is ready, or why it is not. A ready group ends when its nodes learn that it has failed.

   Modelled: the seed is restarted and forgets everything; it can be reached by one node and not by
   the other; deadlines pass at any moment; ranks leave at any moment; the link between the nodes
   breaks, which loses what is on it, and which each side notices at some later time of its own.

   Checked: no wait for ever, no split group, fencing. Planted faults, each of which makes it fail:
   -DNO_FENCE      a node takes what is said of another epoch for its own
   -DNO_ENTER      the coordinator does not wait for the other node
   -DNO_JOIN       a roster does not say of which joins it is
   -DNO_BREAK      only the coordinator notices that a link has broken
   -DLATE_BREAK    a new connection is used before both sides have noticed the end of the old one

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
/* What is said. offer: to the seed. roster: by the seed, and by the coordinator. enter, left: to the
   coordinator. live, failed: by the coordinator. */
mtype = { offer, roster, enter, left, live, failed };

mtype state[2] = idle;
byte epoch[2];          /* of the group that a node has entered */
byte joins[2];          /* how often the rank has joined */
byte answers[2];        /* and has been told what became of it */
int has_entered[2];     /* a bit for each epoch that a node has ever entered */

/* A roster says which joins it is of: of each node, how many there had been. */
typedef Roster { byte join[2] };
Roster rosters[8];
#ifdef NO_JOIN
#define is_of_this_join(n, which) (state[n] == offered)
#else
#define is_of_this_join(n, which) (state[n] == offered && rosters[which].join[n] == joins[n])
#endif

/* The seed's soft state. Epochs are random numbers, which never repeat, whatever is forgotten. */
byte offer_of[2];        /* the join of each node; 0: none */
bool reconnected[2];     /* a node has learned that the seed was restarted */
byte next_epoch = 1;
byte seed_restarts, breaks;

/* What is between the nodes was lost; a node has not noticed yet. */
bool broken[2];

/* Will the rank leave the group that is ready? */
bool leaves[2];

chan to_seed = [2] of { byte, byte };           /* a node, its join */
chan from_seed[2] = [2] of { byte };            /* the epoch of a roster */
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

inline end_seat(n) {
  /* The rank is told, once: either that its join has failed, or that its group has. */
  if
  :: waits(n) -> answers[n]++
  :: else
  fi;
  state[n] = idle;
  leaves[n] = false;
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

active proctype seed() {
  byte n, join;
end:
  do
  :: atomic {
       to_seed ? n, join ->
       offer_of[n] = join;
       if
       :: offer_of[0] && offer_of[1] ->
          rosters[next_epoch].join[0] = offer_of[0];
          rosters[next_epoch].join[1] = offer_of[1];
          offer_of[0] = 0;
          offer_of[1] = 0;
          /* Either of them may be out of reach by now. */
          if
          :: nfull(from_seed[0]) -> from_seed[0] ! next_epoch
          :: true
          fi;
          if
          :: nfull(from_seed[1]) -> from_seed[1] ! next_epoch
          :: true
          fi;
          next_epoch++
       :: else
       fi;
       n = 0;
       join = 0
     }
  :: atomic {
       seed_restarts < SEED_RESTARTS ->
       seed_restarts++;
       offer_of[0] = 0;
       offer_of[1] = 0;
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

active proctype coordinator() {
  mtype what;
  byte which;
end:
  do
  /* The rank joins. */
  :: atomic {
       state[0] == idle && joins[0] < ROUNDS && nfull(to_seed) ->
       joins[0]++;
       state[0] = offered;
       to_seed ! 0, joins[0]
     }
  /* The seed is there again: it is told once more. */
  :: atomic {
       reconnected[0] && nfull(to_seed) ->
       reconnected[0] = false;
       if
       :: state[0] == offered -> to_seed ! 0, joins[0]
       :: else
       fi
     }
  :: atomic {
       can_say(1) && nempty(from_seed[0]) ->
       from_seed[0] ? which;
       if
       :: is_of_this_join(0, which) ->
          enter_epoch(0, which);
          say(1, roster, which);
#ifdef NO_ENTER
          become_ready(0);
#endif
       :: epoch[0] == which /* the other has told it before */
       :: else -> say(1, failed, which)
       fi;
       which = NONE
     }
  :: atomic {
       can_say(1) && nempty(link[0]) ->
       link[0] ? what, which;
       if
       :: what == enter && is_of_this_join(0, which) ->
          enter_epoch(0, which);
          become_ready(0);
          say(1, live, which)
       :: what == enter && state[0] == entered && epoch[0] == which ->
          become_ready(0);
          say(1, live, which)
       :: what == enter && !is_of_this_join(0, which) && epoch[0] != which -> say(1, failed, which)
#ifdef NO_FENCE
       :: what == left && state[0] != idle && state[0] != offered -> end_seat(0)
#else
       :: what == left && epoch[0] == which && which != NONE -> end_seat(0)
#endif
       :: else
       fi;
       what = 0;
       which = NONE
     }
  /* It notices that the link had broken: of no epoch can it know what became of it. */
  :: atomic {
       broken[0] ->
       broken[0] = false;
       if
       :: state[0] == entered || state[0] == ready -> end_seat(0)
       :: else
       fi
     }
  od
}

active proctype other() {
  mtype what;
  byte which;
end:
  do
  :: atomic {
       state[1] == idle && joins[1] < ROUNDS && nfull(to_seed) ->
       joins[1]++;
       state[1] = offered;
       to_seed ! 1, joins[1]
     }
  :: atomic {
       reconnected[1] && nfull(to_seed) ->
       reconnected[1] = false;
       if
       :: state[1] == offered -> to_seed ! 1, joins[1]
       :: else
       fi
     }
  :: atomic {
       can_say(0) && nempty(from_seed[1]) ->
       from_seed[1] ? which;
       if
       :: is_of_this_join(1, which) ->
          enter_epoch(1, which);
          say(0, enter, which)
       :: epoch[1] == which /* the coordinator has told it before */
       :: else -> say(0, left, which)
       fi;
       which = NONE
     }
  :: atomic {
       can_say(0) && nempty(link[1]) ->
       link[1] ? what, which;
       if
       :: what == roster && is_of_this_join(1, which) ->
          enter_epoch(1, which);
          say(0, enter, which)
       :: what == roster && !is_of_this_join(1, which) && epoch[1] != which -> say(0, left, which)
#ifdef NO_FENCE
       :: what == live && state[1] == entered -> become_ready(1)
       :: what == failed && (state[1] == entered || state[1] == ready) -> end_seat(1)
#else
       :: what == live && state[1] == entered && epoch[1] == which -> become_ready(1)
       :: what == failed && epoch[1] == which && which != NONE -> end_seat(1)
#endif
       :: else
       fi;
       what = 0;
       which = NONE
     }
  :: atomic {
       broken[1] ->
       broken[1] = false;
       if
       :: state[1] == entered || state[1] == ready -> end_seat(1)
       :: else
       fi
     }
  od
}

/* A rank leaves a ready group at some time, or never. */
active proctype user() {
end:
  do
  :: atomic { leaves[0] && state[0] == ready && can_say(1) -> give_up(0, failed) }
  :: atomic { leaves[1] && state[1] == ready && can_say(0) -> give_up(1, left) }
  od
}

/* Joins have deadlines. They pass at any moment, and at some moment for sure. */
active proctype deadline_of_coordinator() {
end:
  do
  :: atomic { waits(0) && can_say(1) -> give_up(0, failed) }
  od
}

active proctype deadline_of_other() {
end:
  do
  :: atomic { waits(1) && can_say(0) -> give_up(1, left) }
  od
}

/* Two ready nodes are in one epoch. */
ltl one_epoch { [] (state[0] == ready && state[1] == ready -> epoch[0] == epoch[1]) }
/* Every join is answered. */
ltl answered { [] ((waits(0) -> <> !waits(0)) && (waits(1) -> <> !waits(1))) }
/* Who is ready alone does not stay so. */
#define alone(n) (state[n] == ready && epoch[1 - n] != epoch[n])
ltl not_alone { [] ((alone(0) -> <> !alone(0)) && (alone(1) -> <> !alone(1))) }
