//! Stories about the supervisor, told in scripts: what happens, and exactly what it does about it.

mod boot;
mod disorder;
mod hang;
mod health;
mod leave;
mod notices;
mod order;
mod renewal;
mod restart;
mod rollout;
mod scale;
mod script;
mod settled;
mod spare;
mod stop;
