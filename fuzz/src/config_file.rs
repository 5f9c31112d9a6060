//! The configuration file: TOML, a key for every flag.

use rr_master::cli;
use rr_master::config::diff::diff;

use super::configuration::{keeps_its_bounds, refuses_in_one_line};

/// The bytes of a file. They are a configuration that keeps its bounds and differs in nothing from
/// itself, or are refused in one line that names the file.
pub fn config_file(data: &[u8]) {
    match cli::configuration_in_file(data) {
        Ok(config) => {
            keeps_its_bounds(&config);
            assert_eq!(diff(&config, &config), []);
            let words = config.agents.iter().chain([&config.program]);
            let mut words = words.flat_map(|program| &program.args);
            assert!(words.all(|word| !word.as_encoded_bytes().contains(&0)));
        }
        Err(reason) => {
            refuses_in_one_line(&reason);
            assert!(reason.starts_with("app.toml: "), "{reason:?}");
        }
    }
}
