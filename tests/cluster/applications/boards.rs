//! Leaderboards: points are won on the week's boards, one at a time, and move between boards of the league, in transactions.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use redis::{Commands, Value};

use super::Run;
use super::attempts::{Client, Fate};
use crate::bank::Picks;

const BOARDS: u64 = 4;
const OPENING: i64 = 1000;
const LOOKS_PER_NODE: usize = 5;

type Scores = BTreeMap<String, i64>;

#[derive(Debug)]
struct Player {
    scores: Scores,
    /// The last change, if it is unknown whether it has happened: on all of its boards, or on none, at any later time. So this
    /// player plays no more.
    open: Scores,
}

#[derive(Default)]
pub struct Told(Mutex<BTreeMap<String, Player>>);

fn league(board: u64) -> String {
    format!("league:{board}")
}

fn add(scores: &mut Scores, deltas: &Scores) {
    for (board, delta) in deltas {
        *scores.entry(board.clone()).or_default() += delta;
    }
}

fn enter(run: &Run, client: &mut Client, player: &str) {
    let mut pipe = redis::pipe();
    pipe.atomic();
    for board in 0..BOARDS {
        pipe.cmd("ZADD")
            .arg(league(board))
            .arg("NX")
            .arg(OPENING)
            .arg(player);
    }
    if client.until_done(|c| pipe.query::<Value>(c)).is_some() {
        let scores = (0..BOARDS).map(|board| (league(board), OPENING)).collect();
        let open = Scores::new();
        let told = Player { scores, open };
        run.boards.0.lock().insert(player.to_string(), told);
    }
}

/// Wins points, or moves them: what that adds to which boards, and what has become of it.
fn change(client: &mut Client, player: &str, wins: bool, picks: &mut Picks) -> (Scores, Fate<()>) {
    let points = 1 + i64::try_from(picks.below(999)).expect("it is small");
    let board = picks.below(BOARDS);
    if wins {
        let week = format!("week:{board}");
        let fate = client.attempt(|c| c.zincr(&week, player, points));
        return (Scores::from([(week, points)]), fate);
    }
    let other = (board + 1 + picks.below(BOARDS - 1)) % BOARDS;
    let (from, to) = (league(board), league(other));
    let mut pipe = redis::pipe();
    pipe.atomic().zincr(&from, player, -points).ignore();
    pipe.zincr(&to, player, points).ignore();
    let fate = client.attempt(|c| pipe.query(c));
    (Scores::from([(from, -points), (to, points)]), fate)
}

pub fn play(run: &Run, client: &mut Client, n: usize) {
    let (mut picks, mut names) = (Picks(n as u64 + 17), 0);
    let mut player: Option<String> = None;
    for turn in 0_u64.. {
        if !run.goes_on() {
            return;
        }
        let name = player.take().unwrap_or_else(|| {
            let name = format!("player:{n}:{names}");
            names += 1;
            enter(run, client, &name);
            name
        });
        let (deltas, fate) = change(client, &name, turn.is_multiple_of(2), &mut picks);
        let mut players = run.boards.0.lock();
        // Nobody has entered if another worker has failed meanwhile.
        let Some(told) = players.get_mut(&name) else {
            return;
        };
        match fate {
            Fate::Done(()) => {
                add(&mut told.scores, &deltas);
                run.did("points");
            }
            Fate::Refused => {}
            Fate::Unknown => {
                told.open = deltas;
                continue;
            }
        }
        player = Some(name);
    }
}

pub fn watch(run: &Run, client: &mut Client, _: usize) {
    for turn in 0.. {
        if !run.goes_on() {
            return;
        }
        let players: Vec<String> = run.boards.0.lock().keys().cloned().collect();
        let Some(player) = players.get(turn % players.len().max(1)) else {
            continue;
        };
        let mut pipe = redis::pipe();
        pipe.atomic();
        for board in 0..BOARDS {
            pipe.zscore(league(board), player);
        }
        if let Fate::Done(scores) = client.attempt(|c| pipe.query::<Vec<i64>>(c)) {
            let opening = i64::try_from(BOARDS).expect("it is small") * OPENING;
            assert_eq!(
                scores.iter().sum::<i64>(),
                opening,
                "points of {player} were lost or made on their way: {scores:?}"
            );
            run.did("looks");
        }
        if turn % LOOKS_PER_NODE == 0 {
            client.next_node();
        }
    }
}

pub fn check(run: &Run, client: &mut Client) {
    for (player, told) in run.boards.0.lock().iter() {
        let (mut certain, mut with_open) = (told.scores.clone(), told.scores.clone());
        add(&mut with_open, &told.open);
        let mut seen = Scores::new();
        for board in with_open.keys() {
            let score: Option<i64> = client.look(|c| c.zscore(board, player));
            seen.insert(board.clone(), score.unwrap_or_default());
            certain.entry(board.clone()).or_default();
        }
        assert!(
            seen == certain || seen == with_open,
            "{player} has {seen:?}; {told:?}"
        );
    }
}
