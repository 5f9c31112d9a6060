//! Stories about the supervisor, told in scripts: what happens, and exactly what it does about it.

mod boot;
mod disorder;
mod hang;
mod leave;
mod notices;
mod restart;
mod script;
mod settled;
mod stop;
