//! What goes into a pod and what comes out of it.

use super::*;

#[tokio::test]
async fn blocks_come_out_as_they_went_in_and_rests_come_first() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    let blocks = blocks(6);
    push(&pod, &blocks[2..]).await;
    pod.push(&list(), &blocks[..2], End::Front, 60).await.unwrap();

    let popped = pod.pop(&list(), 4).await.unwrap();
    assert_eq!(popped, Popped { entries: entries(&blocks[..4]), high_water: 1000 });
    assert_eq!(pop(&pod, 100).await.unwrap(), entries(&blocks[4..]));
    assert_eq!(pop(&pod, 100).await.unwrap(), Vec::<String>::new());

    let state = pod.inspect(&scope(), &[("tasks".into(), 1), ("other".into(), 1)]).await.unwrap();
    assert_eq!((state.blocks, state.used_ids[&Arc::from("tasks")]), (vec![0, 0], 60));
    assert!(state.used_memory > 0 && state.max_memory == 256 << 20);
}

#[tokio::test]
async fn ids_at_the_end_of_i64_keep_every_digit() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    let last = [Span::new(i64::MAX, 1).unwrap()];
    pod.push(&list(), &last, End::Back, i64::MAX).await.unwrap();
    pod.raise(&scope(), "tasks", i64::MAX - 1).await.unwrap();
    let popped = pod.pop(&list(), 1).await.unwrap();
    assert_eq!(popped, Popped { entries: entries(&last), high_water: i64::MAX });
}

#[tokio::test]
async fn entries_written_by_hand_come_back_as_they_stand() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    push(&pod, &blocks(1)).await;
    let odd = ["", "text", "-1:1", "0:0", "9223372036854775807:9", "1:10", "\u{1F600}"];
    for entry in odd {
        let _: u64 = redis.run(&["RPUSH", &key(&redis), entry]);
    }
    let _: u64 = redis.run(&[b"RPUSH", key(&redis).as_bytes(), b"\xff\xfe"]);
    let popped = pop(&pod, 100).await.unwrap();
    assert_eq!(popped[0], "1:10");
    assert_eq!(popped[1..8], odd);
    assert_eq!(popped.len(), 9);
}

#[tokio::test]
async fn a_key_of_another_type_is_a_certain_failure() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    push(&pod, &blocks(1)).await;
    let _: () = redis.run(&["SET", &key(&redis), "text"]);
    for result in [pop(&pod, 1).await.map(drop), pod.push(&list(), &blocks(1), End::Back, 1).await] {
        assert!(matches!(&result, Err(PodError::Failed(text)) if text.contains("WRONGTYPE")), "{result:?}");
    }
}

#[tokio::test]
async fn calls_at_the_same_time_share_one_connection_that_is_kept() {
    let redis = Redis::pod();
    let proxy = Proxy::to(redis.port());
    let pod = through(&proxy, PATIENCE);
    push(&pod, &blocks(64)).await;
    let pops = futures_util::future::join_all((0..32).map(|_| pop(&pod, 2))).await;
    let mut popped: Vec<String> = pops.into_iter().flat_map(Result::unwrap).collect();
    popped.sort();
    let mut all = entries(&blocks(64));
    all.sort();
    assert_eq!(popped, all);
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_told_again() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    push(&pod, &blocks(2)).await;
    let _: () = redis.run(&["SCRIPT", "FLUSH"]);
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
    let _: () = redis.run(&["SCRIPT", "FLUSH"]);
    push(&pod, &blocks(1)).await;
    assert_eq!(length(&redis), 2);
}

#[tokio::test]
async fn the_first_push_or_raise_claims_an_empty_pod() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    let empty = pod.heartbeat(&Seen::default()).await.unwrap();
    assert_eq!((empty.identity, empty.cluster, empty.catalogue), (None, None, None));
    assert_eq!(empty.stamp, Stamp::default());
    pod.raise(&scope(), "tasks", 1).await.unwrap();
    assert_eq!(pod.heartbeat(&Seen::default()).await.unwrap().cluster, Some("eu".into()));
}

#[tokio::test]
async fn what_is_older_never_overwrites_what_is_newer() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    let state = async |pod: &Rc<dyn Pod>| {
        let heartbeat = pod.heartbeat(&Seen::default()).await.unwrap();
        let high_water = heartbeat.high_waters.unwrap()[&Arc::from("tasks")];
        assert_eq!(heartbeat.catalogue.unwrap().stamp, heartbeat.stamp);
        (heartbeat.identity.unwrap().life.epoch, heartbeat.stamp.version, high_water)
    };
    pod.publish(&notice(9, 9, 100)).await.unwrap();
    assert_eq!(state(&pod).await, (9, 9, 100));
    pod.publish(&notice(9, 8, 99)).await.unwrap();
    pod.publish(&notice(8, 10, 98)).await.unwrap();
    pod.raise(&scope(), "tasks", 99).await.unwrap();
    assert_eq!(state(&pod).await, (9, 9, 100));
    // More digits are more, not less.
    pod.publish(&notice(9, 10, 1000)).await.unwrap();
    assert_eq!(state(&pod).await, (9, 10, 1000));
    pod.publish(&notice(10, 1, 1000)).await.unwrap();
    assert_eq!(state(&pod).await, (10, 1, 1000));
}

#[tokio::test]
async fn a_heartbeat_repeats_nothing_that_was_seen() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    pod.publish(&notice(1, 1, 100)).await.unwrap();
    let all = pod.heartbeat(&Seen::default()).await.unwrap();
    assert_eq!(all.catalogue.as_ref(), Some(&*notice(1, 1, 0).catalogue));
    let seen = Seen { stamp: all.stamp, high_waters: all.high_waters_seen, by: None };
    let news = pod.heartbeat(&seen).await.unwrap();
    assert_eq!((news.catalogue, news.high_waters, &news.run_id), (None, None, &all.run_id));

    pod.publish(&notice(1, 1, 100)).await.unwrap();
    assert_eq!(pod.heartbeat(&seen).await.unwrap().high_waters, None);
    pod.raise(&scope(), "tasks", 101).await.unwrap();
    let news = pod.heartbeat(&seen).await.unwrap();
    assert_eq!(news.high_waters.unwrap()[&Arc::from("tasks")], 101);
    assert_eq!(news.catalogue, None);
    pod.publish(&notice(1, 2, 100)).await.unwrap();
    assert_eq!(pod.heartbeat(&seen).await.unwrap().catalogue.unwrap().stamp.version, 2);
    assert_eq!(all.run_id.to_string(), redis.info("run_id"));
}

#[tokio::test]
async fn a_sweep_deletes_old_lists_of_its_own_only() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    for generation in 1..=3 {
        let list = List { generation, ..list() };
        pod.push(&list, &blocks(1), End::Back, 1).await.unwrap();
    }
    let life = format!("{}:{}", redis.info("run_id"), redis.info("master_replid"));
    let theirs = [
        format!("blockhouse:{}:eu:{life}:tasks:1", Uuid::max()),
        format!("blockhouse:{LEDGER}:us:{life}:tasks:1"),
        format!("blockhouse:{LEDGER}:eu:{life}:unknown:1"),
        format!("other:{LEDGER}:eu:earlier:life:tasks:1"),
    ];
    let earlier = format!("blockhouse:{LEDGER}:eu:earlier:life:tasks:9");
    for key in theirs.iter().chain([&earlier]) {
        let _: u64 = redis.run(&["RPUSH", key, "1:1"]);
    }
    let _: u64 = redis.run(&["HSET", "blockhouse:pod:earlier:life", "token", "1"]);
    // More keys than one step looks at.
    let crowd: Vec<String> = (0..3000).flat_map(|key| [format!("crowd:{key}"), String::new()]).collect();
    let _: () = redis.run(&[vec!["MSET".to_owned()], crowd].concat());

    let keep = [("tasks".into(), 3)];
    let mut deleted = 0;
    let mut steps = 0;
    while deleted < 3 && steps < 100 {
        deleted += pod.sweep(&scope(), &keep).await.unwrap();
        steps += 1;
    }
    for _ in 0..20 {
        deleted += pod.sweep(&scope(), &keep).await.unwrap();
    }
    assert_eq!(deleted, 3);
    let mut left = redis.keys("*:tasks:*");
    left.extend(redis.keys("*:unknown:*"));
    left.sort();
    let mut expected = theirs.to_vec();
    expected.push(format!("blockhouse:{LEDGER}:eu:{life}:tasks:3"));
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(redis.keys("blockhouse:pod:earlier*"), Vec::<String>::new());
    assert_eq!(redis.keys("crowd:*").len(), 3000);
}

#[tokio::test]
async fn a_days_supply_at_10_000_ids_a_second_fits_in_21_megabytes() {
    for redis in [Redis::pod(), Redis::vanilla()] {
        let pod = pod(&redis);
        let first = 1_000_000_000_000;
        let started = Instant::now();
        for chunk in 0..864 {
            let chunk: Vec<Span> = (0..1000)
                .map(|block| Span::new(first + (chunk * 1000 + block) * 1000, 1000).unwrap())
                .collect();
            pod.push(&list(), &chunk, End::Back, first).await.unwrap();
        }
        let took = started.elapsed();
        let state = pod.inspect(&scope(), &[("tasks".into(), 1)]).await.unwrap();
        println!("864 chunks of 1,000 in {took:?}, {} bytes", state.used_memory);
        assert_eq!(state.blocks, [864_000]);
        assert!(state.used_memory <= 21_000_000, "{}", state.used_memory);
    }
}
