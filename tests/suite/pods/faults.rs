//! A server or a network that fails: what a call may cost, and what is certain or in doubt after it.

use super::*;

#[tokio::test]
async fn a_pod_that_is_paused_costs_one_time_out_and_loses_only_what_was_asked() {
    let redis = Redis::pod();
    let pod = open(&redis.url(), SHORT);
    push(&pod, &blocks(11)).await;
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
    redis.pause();
    let started = Instant::now();
    let result = pop(&pod, 3).await;
    assert!(matches!(result, Err(PodError::InDoubt(_))), "{result:?}");
    assert!(started.elapsed() >= SHORT);
    // Nothing is sent without a connection, and there is none: certainly not carried out.
    let result = pod.push(&list(), &blocks(1), End::Back, 1).await;
    assert!(matches!(result, Err(PodError::Failed(_))), "{result:?}");
    redis.resume();

    eventually("the lost pop was carried out", || length(&redis) == 7);
    let pod = self::pod(&redis);
    assert_eq!(pop(&pod, 1).await.unwrap(), ["41:10"]);
}

#[tokio::test]
async fn a_pod_that_is_flushed_is_empty_and_goes_on() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    for _ in 0..3 {
        push(&pod, &blocks(10)).await;
        assert_eq!(pop(&pod, 2).await.unwrap().len(), 2);
        let _: () = redis.run(&["FLUSHALL"]);
        assert_eq!(pop(&pod, 2).await.unwrap(), Vec::<String>::new());
    }
    pod.heartbeat(&Seen::default()).await.unwrap();
}

#[tokio::test]
async fn a_pod_out_of_memory_serves_its_own_blocks_and_certainly_takes_no_others() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    push(&pod, &blocks(10)).await;
    let _: () = redis.run(&["CONFIG", "SET", "maxmemory", "1"]);

    let result = pod.push(&list(), &blocks(1), End::Back, 2000).await;
    assert!(matches!(&result, Err(PodError::Full(text)) if text.contains("OOM")), "{result:?}");
    assert_eq!(length(&redis), 10);
    assert_eq!(pop(&pod, 4).await.unwrap(), entries(&blocks(4)));
    pod.publish(&notice(1, 1, 3000)).await.unwrap();
    pod.raise(&scope(), "tasks", 4000).await.unwrap();
    pod.heartbeat(&Seen::default()).await.unwrap();
    assert_eq!(pod.sweep(&scope(), &[]).await.unwrap(), 0);
    let state = pod.inspect(&scope(), &[("tasks".into(), 1)]).await.unwrap();
    assert_eq!((state.blocks, state.used_ids[&Arc::from("tasks")], state.max_memory), (vec![6], 40, 1));

    // A process and a server that don't know the scripts yet.
    let _: () = redis.run(&["SCRIPT", "FLUSH"]);
    let popped = self::pod(&redis).pop(&list(), 1).await.unwrap();
    assert_eq!(popped, Popped { entries: vec!["41:10".to_owned()], high_water: 4000 });
}

#[tokio::test]
async fn a_lost_reply_is_in_doubt_and_its_connection_is_dropped() {
    let redis = Redis::pod();
    let proxy = Proxy::to(redis.port());
    let pod = through(&proxy, SHORT);
    push(&pod, &blocks(11)).await;
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);

    proxy.set(Mode::DropReplies);
    let result = pop(&pod, 2).await;
    assert!(matches!(result, Err(PodError::InDoubt(_))), "{result:?}");
    assert_eq!(length(&redis), 8, "it was carried out");
    assert!(proxy.dropped_bytes() > 0);
    proxy.set(Mode::Pass);
    let connections = proxy.connections();
    assert_eq!(pop(&pod, 2).await.unwrap(), ["31:10", "41:10"]);
    assert_eq!(proxy.connections(), connections + 1);

    proxy.set(Mode::DropReplies);
    let result = pod.push(&list(), &[Span::new(1001, 10).unwrap()], End::Back, 2000).await;
    assert!(matches!(result, Err(PodError::InDoubt(_))), "{result:?}");
    assert_eq!(length(&redis), 7, "it was carried out, and nothing repeats it");
    proxy.set(Mode::Pass);
    assert_eq!(pop(&pod, 100).await.unwrap().last().unwrap(), "1001:10");
}

#[tokio::test]
async fn a_call_dropped_in_flight_drops_the_connection_but_not_the_calls_beside_it() {
    let redis = Redis::pod();
    let proxy = Proxy::to(redis.port());
    let pod = through(&proxy, PATIENCE);
    push(&pod, &blocks(11)).await;
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
    proxy.set(Mode::Latency(Duration::from_millis(500)));
    let beside = pop(&pod, 1);
    let dropped = async {
        let call = pop(&pod, 1);
        let carried_out = async {
            while length(&redis) != 8 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            answer = call => panic!("answered before it could be dropped: {answer:?}"),
            () = carried_out => {}
        }
    };
    let (beside, ()) = futures_util::future::join(beside, dropped).await;
    assert_eq!(beside.unwrap(), ["11:10"]);
    assert_eq!(proxy.connections(), 1);
    assert_eq!(
        pop(&pod, 1).await.unwrap(),
        ["31:10"],
        "what was dropped is lost, and taken for nothing else"
    );
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_reset_connection_is_replaced() {
    let redis = Redis::pod();
    let proxy = Proxy::to(redis.port());
    let pod = through(&proxy, PATIENCE);
    push(&pod, &blocks(10)).await;
    proxy.set(Mode::Reset);
    assert!(pop(&pod, 1).await.is_err());
    assert!(pod.heartbeat(&Seen::default()).await.is_err());
    proxy.set(Mode::Pass);
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
}

#[tokio::test]
async fn a_black_hole_costs_a_caller_one_time_out_and_a_heartbeat_the_time_to_connect() {
    let redis = Redis::pod();
    let proxy = Proxy::to(redis.port());
    proxy.set(Mode::Blackhole);
    let pod = through(&proxy, SHORT);
    let started = Instant::now();
    let result = pop(&pod, 1).await;
    assert!(matches!(result, Err(PodError::Failed(_))), "{result:?}");
    assert!(started.elapsed() < SHORT * 3, "{:?}", started.elapsed());
    let started = Instant::now();
    let result = pod.heartbeat(&Seen::default()).await.map(drop);
    assert!(matches!(result, Err(PodError::Failed(_))), "{result:?}");
    assert!(started.elapsed() >= SHORT * 4, "{:?}", started.elapsed());
    assert_eq!(proxy.sent_bytes(), 0);
    proxy.set(Mode::Pass);
    pod.heartbeat(&Seen::default()).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_is_not_there_fails_at_once_and_certainly() {
    let mut redis = Redis::pod();
    let pod = pod(&redis);
    redis.kill();
    let result = pod.push(&list(), &blocks(1), End::Back, 1).await;
    assert!(matches!(result, Err(PodError::Failed(_))), "{result:?}");
}

#[tokio::test]
async fn a_wrong_password_is_a_certain_failure_and_never_shown() {
    let redis = Redis::with(&["--save", "", "--user", "me", "on", ">hunter2", "~blockhouse:*", "+@all"]);
    let address = format!("127.0.0.1:{}", redis.port());
    let _: () = redis.run(&["ACL", "SETUSER", "default", "off"]);
    let result = open(&format!("redis://me:hunter3@{address}"), PATIENCE).pop(&list(), 1).await;
    assert!(matches!(&result, Err(PodError::Failed(text)) if !text.contains("hunter")), "{result:?}");
    let pod = open(&format!("redis://me:hunter2@{address}"), PATIENCE);
    push(&pod, &blocks(1)).await;
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
}
