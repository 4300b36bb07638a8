//! What a pod in memory keeps, and what it is refused for.

use futures_util::FutureExt;
use uuid::Uuid;

use super::*;
use crate::block::{Catalogue, Identity, Life, Span, Stamp};
use crate::pods::{Answer, End, List, Notice, Popped, Scope, Seen};

fn scope() -> Scope {
    Scope { ledger: Uuid::nil(), cluster: "eu".into() }
}

fn list(generation: i64) -> List {
    List { scope: scope(), sequence: "tasks".into(), generation }
}

fn spans(firsts: &[i64]) -> Vec<Span> {
    firsts.iter().map(|first| Span::new(*first, 10).unwrap()).collect()
}

fn notice(epoch: i64, version: i64, high_water: i64) -> Notice {
    let life = Life { epoch, token: Uuid::from_u128(epoch as u128) };
    let stamp = Stamp { epoch, version };
    Notice {
        identity: Identity { ledger: Uuid::nil(), environment: "test".to_owned(), life },
        cluster: "eu".into(),
        catalogue: Arc::new(Catalogue { stamp, ..Catalogue::default() }),
        high_waters: vec![("tasks".into(), high_water)],
        read_at_us: high_water,
    }
}

/// The calls never wait, so one poll is enough.
fn now<T>(answer: Answer<'_, T>) -> Result<T, PodError> {
    answer.now_or_never().expect("an in-process pod never waits")
}

fn server() -> Server {
    Server::new(0, &mut fastrand::Rng::with_seed(1))
}

#[test]
fn entries_are_popped_in_the_order_of_pushes_and_rests_come_first() {
    let server = server();
    let (pod, other) = (server.connect(), server.connect());
    now(pod.push(&list(1), &spans(&[11, 21]), End::Back, 40)).unwrap();
    now(other.push(&list(1), &spans(&[1, 5]), End::Front, 20)).unwrap();
    let popped = now(pod.pop(&list(1), 3)).unwrap();
    assert_eq!(
        popped,
        Popped { entries: ["1:10", "5:10", "11:10"].map(str::to_owned).into(), high_water: 40 }
    );
    let inspection = now(pod.inspect(&scope(), &[("tasks".into(), 1), ("tasks".into(), 2)])).unwrap();
    assert_eq!(inspection.blocks, [1, 0]);
    assert_eq!(inspection.used_ids[&Arc::from("tasks")], 30);
}

#[test]
fn a_call_that_is_never_polled_does_nothing() {
    let pod = server().connect();
    drop(pod.push(&list(1), &spans(&[1]), End::Back, 10));
    assert_eq!(now(pod.pop(&list(1), 1)).unwrap(), Popped::default());
}

#[test]
fn what_is_older_is_not_written() {
    let pod = server().connect();
    now(pod.publish(&notice(2, 5, 100))).unwrap();
    now(pod.publish(&notice(1, 9, 90))).unwrap();
    let all = now(pod.heartbeat(&Seen::default())).unwrap();
    assert_eq!((all.stamp, all.identity.unwrap().life.epoch), (Stamp { epoch: 2, version: 5 }, 2));
    assert_eq!(all.high_waters.unwrap()[&Arc::from("tasks")], 100);
    let seen = Seen { stamp: all.stamp, high_waters: all.high_waters_seen, by: None };
    let news = now(pod.heartbeat(&seen)).unwrap();
    assert_eq!((news.catalogue, news.high_waters), (None, None));
}

#[test]
fn another_cluster_ledger_environment_or_line_of_history_is_refused() {
    let pod = server().connect();
    now(pod.publish(&notice(1, 1, 1))).unwrap();
    let mut others = [notice(1, 1, 1), notice(1, 1, 1), notice(1, 1, 1), notice(1, 1, 1)];
    others[0].cluster = "us".into();
    others[1].identity.ledger = Uuid::max();
    others[2].identity.environment = "beta".to_owned();
    others[3].identity.life.token = Uuid::max();
    for other in others {
        assert!(matches!(now(pod.publish(&other)), Err(PodError::Refused(_))), "{other:?}");
    }
    let other = Scope { cluster: "us".into(), ..scope() };
    assert!(matches!(now(pod.raise(&other, "tasks", 1)), Err(PodError::Refused(_))));
}

#[test]
fn a_sweep_deletes_lower_generations_only() {
    let pod = server().connect();
    for generation in 1..=3 {
        now(pod.push(&list(generation), &spans(&[1]), End::Back, 10)).unwrap();
    }
    assert_eq!(now(pod.sweep(&scope(), &[("tasks".into(), 2)])).unwrap(), 1);
    assert_eq!(now(pod.pop(&list(1), 1)).unwrap().entries, Vec::<String>::new());
    assert_eq!(now(pod.pop(&list(3), 1)).unwrap().entries, ["1:10"]);
}

/// A server with two entries, of which one was popped, and what it held before that.
fn popped_once() -> (Server, Snapshot, Client<Server>) {
    let server = server();
    let pod = server.connect();
    now(pod.push(&list(1), &spans(&[1, 11]), End::Back, 20)).unwrap();
    let before = server.snapshot();
    assert_eq!(now(pod.pop(&list(1), 1)).unwrap().entries, ["1:10"]);
    (server, before, pod)
}

fn is_refused<T>(answer: Result<T, PodError>) -> bool {
    matches!(answer, Err(PodError::Refused(_)))
}

#[test]
fn a_server_that_starts_with_an_old_snapshot_gives_nothing_of_it() {
    let (server, before, pod) = popped_once();
    server.restart(before);
    assert!(is_refused(now(pod.pop(&list(1), 1))), "the connection began in another life");
    assert_eq!(now(pod.pop(&list(1), 1)).unwrap().entries, Vec::<String>::new());
}

#[test]
fn a_server_that_was_demoted_is_no_pod_and_gives_nothing_of_what_came_back() {
    let (server, before, pod) = popped_once();
    server.demote(before);
    assert!(is_refused(now(pod.pop(&list(1), 1))));
    server.promote();
    assert_eq!(now(pod.pop(&list(1), 1)).unwrap().entries, Vec::<String>::new());
}

#[test]
fn a_memory_that_was_replaced_by_an_older_copy_is_refused_until_it_is_emptied() {
    let (server, before, pod) = popped_once();
    server.restore(before);
    assert!(is_refused(now(pod.pop(&list(1), 1))));
    assert!(is_refused(now(server.connect().pop(&list(1), 1))), "everybody is told");
    server.flush();
    assert_eq!(now(pod.pop(&list(1), 1)).unwrap().entries, Vec::<String>::new());
    now(pod.push(&list(1), &spans(&[31]), End::Back, 40)).unwrap();
    assert_eq!(now(pod.pop(&list(1), 1)).unwrap().entries, ["31:10"]);
}

#[test]
fn a_server_with_replicas_is_no_pod() {
    let (server, _, pod) = popped_once();
    server.attach(1);
    assert!(is_refused(now(pod.pop(&list(1), 1))));
    server.attach(0);
    assert_eq!(now(pod.pop(&list(1), 1)).unwrap().entries, ["11:10"]);
}
