//! Stories about the supervisor, told in scripts: what happens, and exactly what it does about it.

mod boot;
mod disorder;
mod hang;
mod health;
mod leave;
mod notices;
mod renewal;
mod restart;
mod rollout;
mod script;
mod stop;
