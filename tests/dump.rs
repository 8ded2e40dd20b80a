//! DUMP and RESTORE: values between Quorate and a real Redis 7.0, both ways; forms that older and newer ones write; payloads
//! that lie. What needs a `redis-server` says so and passes where there is none.
#![allow(clippy::disallowed_methods)] // Clocks: this is no simulation.
#![expect(clippy::panic, reason = "a test fails by panicking")]

#[path = "dump/forms.rs"]
mod forms;
#[path = "dump/hostile.rs"]
mod hostile;
#[path = "dump/large.rs"]
mod large;
#[path = "dump/machine.rs"]
mod machine;
#[path = "dump/moving.rs"]
mod moving;
#[allow(dead_code, reason = "another test uses the rest of it")]
#[path = "differential/redis.rs"]
mod redis;
#[path = "golden/resp.rs"]
#[allow(dead_code)]
mod resp;
#[path = "dump/values.rs"]
mod values;
