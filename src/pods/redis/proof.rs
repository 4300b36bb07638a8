//! Reads what `proof.lua` returned.

use deadpool_redis::redis::{self, FromRedisValue, ParsingError, Value};

use crate::pods::proof::{Life, Proof};

/// The proof, and what the script's own work brought.
pub(super) fn read(answer: Value) -> Result<(Proof, Value), ParsingError> {
    let mut fields = Vec::<Value>::from_redis_value(answer)?.into_iter();
    let mut next = || fields.next().unwrap_or(Value::Nil);
    let proof = Proof {
        nonce: field(next())?,
        done: field::<u8>(next())? == 1,
        life: Life { run_id: field(next())?, replid: field(next())? },
        role: field(next())?,
        replicas: field(next())?,
        cluster_node: field::<u8>(next())? == 1,
        owner: (field(next())?, field(next())?),
        token: field(next())?,
        popped: field(next())?,
        restored: field::<u8>(next())? == 1,
    };
    Ok((proof, next()))
}

fn field<T: FromRedisValue>(value: Value) -> Result<T, ParsingError> {
    redis::from_redis_value(value)
}
