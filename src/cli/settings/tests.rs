use std::time::Duration;

use worker_proto::env::ALL as INTRODUCTION;

use super::*;
use crate::ListenerSpec;
use crate::config::OnDemand;
use crate::config::diff::diff;
use crate::control::place;

/// The command line wins over the environment, the environment over the file, setting by setting.
#[test]
fn the_more_particular_place_wins() {
    const FILE: &str = "ready-timeout = \"3s\"";
    const VARIABLE: &[(&str, &str)] = &[("RR_READY_TIMEOUT", "2s")];
    const FLAG: &[&str] = &["--ready-timeout=1s"];
    for (flags, variables, file, seconds, origin) in [
        (&[][..], &[][..], "", 30, Origin::Default),
        (&[], &[], FILE, 3, file_origin()),
        (&[], VARIABLE, "", 2, Origin::Environment),
        (&[], VARIABLE, FILE, 2, Origin::Environment),
        (FLAG, &[], "", 1, Origin::CommandLine),
        (FLAG, &[], FILE, 1, Origin::CommandLine),
        (FLAG, VARIABLE, "", 1, Origin::CommandLine),
        (FLAG, VARIABLE, FILE, 1, Origin::CommandLine),
        // An empty variable says nothing.
        (&[], &[("RR_READY_TIMEOUT", "")], FILE, 3, file_origin()),
        // Another setting of the same place changes nothing.
        (&["--window=7"], VARIABLE, FILE, 2, Origin::Environment),
    ] {
        let settings = settings(flags, variables, file).unwrap();
        let time = config(&settings).ready_timeout;
        let case = format!("{flags:?} {variables:?} {file}");
        assert_eq!(time, Duration::from_secs(seconds), "{case}");
        assert_eq!(*settings.origin("ready-timeout"), origin, "{case}");
    }
}

#[test]
fn a_list_is_replaced_as_a_whole() {
    const FILE: &str = "listen = ['127.0.0.1:1', 'web=127.0.0.1:2']";
    const VARIABLE: &[(&str, &str)] = &[("RR_LISTEN", "127.0.0.1:3\nweb=127.0.0.1:4\n")];
    for (flags, variables, file, expected) in [
        (&[][..], &[][..], FILE, &["127.0.0.1:1", "web"][..]),
        (&[], VARIABLE, FILE, &["127.0.0.1:3", "web"]),
        (&["-l", "127.0.0.1:5"], VARIABLE, FILE, &["127.0.0.1:5"]),
        (&[], &[], "listen = '127.0.0.1:6'", &["127.0.0.1:6"]),
        (&[], &[], "listen.web = '127.0.0.1:7'", &["web"]),
        (&[], &[], "listen = []", &[]),
    ] {
        let flags = [flags, &["x"]].concat();
        let config = config(&settings(&flags, variables, file).unwrap());
        let names: Vec<String> = config.listeners.iter().map(ListenerSpec::name).collect();
        assert_eq!(names, expected, "{flags:?} {variables:?} {file}");
        assert_eq!(config.on_demand == OnDemand::Any, names.is_empty());
    }
}

#[test]
fn a_switch_can_be_taken_back() {
    for (flags, variable, file, expected) in [
        (&[][..], "", "", false),
        (&["--no-refork"], "", "", true),
        (&["--no-refork=false"], "", "no-refork = true", false),
        (&["--no-refork=false"], "true", "no-refork = true", false),
        (&[], "true", "no-refork = false", true),
        (&[], "false", "no-refork = true", false),
        (&[], "", "no-refork = true", true),
    ] {
        let settings = settings(flags, &[("RR_NO_REFORK", variable)], file).unwrap();
        let is_never = config(&settings).restart == crate::supervisor::Restart::Never;
        assert_eq!(is_never, expected, "{flags:?} {variable} {file}");
    }
}

#[test]
fn who_names_the_program_gives_its_arguments() {
    const FILE: &str = "program = 'file'\nargs = ['--of-file', 1]";
    const BOTH: &[(&str, &str)] = &[("RR_PROGRAM", "env"), ("RR_ARGS", "--of env\n2")];
    for (flags, variables, file, expected) in [
        (&[][..], &[][..], FILE, &["file", "--of-file", "1"][..]),
        (&[], BOTH, FILE, &["env", "--of env", "2"]),
        (&[], &BOTH[..1], FILE, &["env"]),
        (&["-w", "1", "flag", "-x"], BOTH, FILE, &["flag", "-x"]),
        (&["--", "-x", "--"], BOTH, FILE, &["-x", "--"]),
        (&["--"], &[], "program = '-x'", &["-x"]),
    ] {
        let settings = settings(flags, variables, file).unwrap();
        assert_eq!(settings.args.command, expected, "{flags:?} {variables:?}");
    }
}

#[test]
fn variables_for_processes_come_from_a_table_or_an_array() {
    for file in [
        "env = { A = 'x=y', B = 2 }",
        "env = ['A=x=y', 'B=2']",
        "[env]\nA = 'x=y'\nB = '2'",
    ] {
        let config = config(&settings(&[], &[], file).unwrap());
        let expected = [("A", "x=y"), ("B", "2")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(config.program.env, expected, "{file}");
    }
}

/// S02: a table in the file is what the flag has in a line.
#[test]
fn jobs_come_from_tables() {
    const FLAG: &str = r#"--job=name="sweep", interval="30s", immediate=true"#;
    for (flags, variables, file) in [
        (
            &[][..],
            &[][..],
            "[[job]]\nname = 'sweep'\ninterval = '30s'\nimmediate = true",
        ),
        (
            &[],
            &[],
            "job = [{ name = 'sweep', interval = '30s', immediate = true }]",
        ),
        (
            &[],
            &[],
            "job.name = 'sweep'\njob.interval = '30s'\njob.immediate = true",
        ),
        (&[FLAG], &[], "[[job]]\nname = 'another'"),
        (
            &[],
            &[("RR_JOB", &FLAG["--job=".len()..])],
            "[[job]]\nname = 'another'",
        ),
    ] {
        let settings = settings(flags, variables, file).unwrap();
        let jobs = config(&settings).jobs;
        let shown: Vec<String> = jobs.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["sweep (every 30s, one, skip, drop, immediate)"]);
        comes_back(&settings);
    }
    let two = "[[job]]\nname = 'a'\ncron = '*/5 * * * *'\n[[job]]\nname = \"b \\\"c\\\"\"";
    let settings = settings(&[], &[], two).unwrap();
    comes_back(&settings);
    assert_eq!(config(&settings).jobs.len(), 2);
}

/// Every place that can be wrong, with the value and the remedy.
#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (file, says) in [
        (
            "wrokers = 4",
            &["unknown key \"wrokers\"", "did you mean \"workers\"?"][..],
        ),
        ("ready_timeout = '1s'", &["did you mean \"ready-timeout\"?"]),
        ("[listen-on]", &["unknown key \"listen-on\""]),
        ("colour = 1", &["unknown key \"colour\"", "--print-config"]),
        // What is done with a configuration is no part of it.
        ("check = true", &["unknown key \"check\""]),
        ("config = 'x'", &["unknown key \"config\""]),
        ("builtin = 'hello'", &["unknown key \"builtin\""]),
        (
            "ready-timeout = '5x'",
            &["key \"ready-timeout\": invalid value '5x'", "500ms, 30s"],
        ),
        (
            "stop-timeout = 10",
            &["key \"stop-timeout\": invalid value '10'", "500ms, 30s"],
        ),
        (
            "window = 0",
            &["key \"window\": invalid value '0'", "1..=256"],
        ),
        (
            "window = -1",
            &["key \"window\": invalid value '-1'", "1..=256"],
        ),
        (
            "workers = 1.5",
            &["key \"workers\": invalid value '1.5'", "auto"],
        ),
        (
            "workers = true",
            &["key \"workers\": expected a string or a number, found a boolean"],
        ),
        (
            "workers = [4]",
            &["key \"workers\": expected a string or a number, found an array"],
        ),
        ("workers = 2020-01-01", &["found a date or time"]),
        (
            "no-refork = 'true'",
            &["key \"no-refork\": expected true or false, found a string"],
        ),
        (
            "no-refork = 1",
            &["expected true or false, found an integer"],
        ),
        (
            "pidfile = 5",
            &["key \"pidfile\": expected a string, found an integer"],
        ),
        ("pidfile = ''", &["key \"pidfile\": a value is required"]),
        (
            "env = { \"A=B\" = 1 }",
            &["key \"env\": \"A=B\": a name has no '=' in it"],
        ),
        ("cwd = \"a\\u0000b\"", &["key \"cwd\"", "zero byte"]),
        (
            "listen = 8000",
            &["key \"listen\": invalid value '8000'", "127.0.0.1:PORT"],
        ),
        (
            "listen = true",
            &["key \"listen\": expected an array of strings, found a boolean"],
        ),
        (
            "[[job]]\nname = 'a'\ncron = '61 * * * *'",
            &[
                "key \"job\"",
                "cron \"61 * * * *\": minute \"61\"",
                "0 to 59",
            ],
        ),
        (
            "[[job]]\nname = 'a'\ntimeout = 5",
            &["key \"job\": timeout: expected a string, true or false, found an integer"],
        ),
        (
            "job = 5",
            &["key \"job\": expected a table, found an integer"],
        ),
        ("[[job]]\ninterval = '1s'", &["missing field `name`"]),
        ("window = 0x1f", &["key \"window\": write 0x1f in decimal"]),
        (
            "window = 99999999999999999999",
            &["key \"window\": invalid value '99999999999999999999'"],
        ),
        (
            "listen = ['127.0.0.1:1', 'x']",
            &["key \"listen\": invalid value 'x'", "HOST:PORT"],
        ),
        (
            "listen = [['127.0.0.1:1']]",
            &["key \"listen\": expected a string or a number"],
        ),
        (
            "allow-listen = { a = 'b' }",
            &["key \"allow-listen\": expected an array of strings, found a table"],
        ),
        (
            "agent = ['a \"']",
            &["key \"agent\": invalid value 'a \"'", "quot"],
        ),
        ("agent = ['']", &["key \"agent\"", "the command is empty"]),
        (
            "env = { A = true }",
            &["key \"env\": \"A\": expected a string or a number"],
        ),
        (
            "env = { RR_SLOT = 1 }",
            &["key \"env\"", "the master's own"],
        ),
        ("env = ['NOVALUE']", &["key \"env\"", "KEY=VALUE"]),
        (
            "overflow = 'drop'",
            &[
                "key \"overflow\": invalid value 'drop'",
                "wait, close, reset",
            ],
        ),
        (
            "overflow-after = '1s'",
            &["key \"overflow-after\"", "--overflow close"],
        ),
        (
            "program = 1",
            &["key \"program\": expected a string, found an integer"],
        ),
        (
            "args = ['x']",
            &["key \"args\": there is no program", "add program"],
        ),
        ("workers 4", &["line 1, column 9"]),
        (
            "workers = 4\nworkers = 5",
            &["line 2, column 1", "duplicate key"],
        ),
        ("# é\n é = 1", &["line 2, column 2"]),
        ("x = 'never closed", &["line 1"]),
    ] {
        let err = settings(&[], &[], file).and_then(unchecked).unwrap_err();
        assert!(err.starts_with("app.toml: "), "{file}: {err}");
        assert!(!err.contains('\n'), "{err}");
        for text in says {
            assert!(err.contains(text), "no {text:?} in {err:?} of {file:?}");
        }
    }
    for (variable, value, says) in [
        ("RR_WINDOW", "x", "environment RR_WINDOW: invalid value 'x'"),
        (
            "RR_NO_REFORK",
            "1",
            "environment RR_NO_REFORK: invalid value '1'",
        ),
        (
            "RR_LISTEN",
            "127.0.0.1:1\n8000",
            "environment RR_LISTEN: invalid value '8000'",
        ),
        (
            "RR_ARGS",
            "x",
            "environment RR_ARGS: there is no program that they are for: add RR_PROGRAM",
        ),
        (
            "RR_OVERFLOW_AFTER",
            "1s",
            "environment RR_OVERFLOW_AFTER: --overflow-after says",
        ),
    ] {
        let read = settings(&[], &[(variable, value)], "");
        let err = read.and_then(unchecked).unwrap_err();
        assert!(err.starts_with(says), "{err}");
    }
}

/// What cannot be run is told with its place, too.
#[test]
fn what_this_machine_cannot_run_is_told_with_its_place() {
    for (flags, file, says) in [
        (
            &[][..],
            "workers = 0",
            "app.toml: key \"workers\": workers 0",
        ),
        (
            &[],
            "stall-timeout = '1ms'",
            "app.toml: key \"stall-timeout\": stall timeout 1ms",
        ),
        (
            &[],
            "cwd = '/nonexistent'",
            "app.toml: key \"cwd\": directory /nonexistent",
        ),
        (&["--workers=0"], "workers = 4", "workers 0"),
        (
            &[],
            "program = '/nonexistent'\nagent = '/bin/true'",
            "app.toml: key \"program\": program /nonexistent: no such file",
        ),
        (
            &["/bin/true"],
            "agent = '/nonexistent'",
            "app.toml: key \"agent\": program /nonexistent: no such file",
        ),
    ] {
        let err = settings(flags, &[], file).unwrap().config().unwrap_err();
        assert!(err.line().starts_with(says), "{}", err.line());
    }
}

/// Also what the command line overrides is looked at: it would hurt another day.
#[test]
fn a_wrong_value_is_refused_where_it_does_not_matter() {
    assert!(settings(&["--window=1"], &[], "window = 0").is_err());
    assert!(settings(&["--window=1"], &[("RR_WINDOW", "0")], "").is_err());
}

#[test]
fn a_variable_that_is_no_setting_is_a_warning_unless_a_master_has_set_it() {
    let read = |name| settings(&[], &[(name, "1")], "").unwrap().warnings;
    assert_eq!(
        read("RR_WROKERS"),
        ["environment RR_WROKERS: no such setting: did you mean RR_WORKERS?"]
    );
    assert_eq!(
        read("RR_XYLOPHONE"),
        ["environment RR_XYLOPHONE: no such setting"]
    );
    assert_eq!(read("RR_CHECK").len(), 1, "what is done is no setting");
    for name in INTRODUCTION.into_iter().chain([place::DIRECTORY]) {
        assert_eq!(read(name), [""; 0], "{name}");
    }
    assert_eq!(read("RRT_WORKERS"), [""; 0]);
}

/// The built-in worker is started in an environment that may be meant for its master.
#[test]
fn the_builtin_worker_has_no_settings() {
    let variables = [("RR_WINDOW", "x"), ("RR_CONFIG", "/nonexistent")];
    let settings = settings_in(&["--builtin", "hello"], &variables, None).unwrap();
    assert!(settings.args.builtin.is_some());
}

/// Whoever adds a flag has added a key and a variable, and nothing that anything else is called.
#[test]
fn every_flag_is_a_key_and_a_variable() {
    let command = setting::command();
    let settings = Setting::all(&command);
    let no_settings = ["config", "check", "print-config", "builtin"];
    for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
        let long = arg.get_long().expect("a flag has a long name");
        let is_setting = settings.iter().any(|setting| setting.key == long);
        let is_exempt = arg.is_hide_set() || no_settings.contains(&long);
        assert_ne!(is_setting, is_exempt, "--{long}");
    }
    let own = setting::OWN_VARIABLES.into_iter().chain(INTRODUCTION);
    let variables = settings.iter().map(|setting| setting.variable.as_str());
    let all: Vec<&str> = own.chain(variables).collect();
    for (index, name) in all.iter().enumerate() {
        assert!(!all[..index].contains(name), "{name} means two things");
    }
}

/// For every flag there is, without naming one: what is printed is read again as it was, from the
/// file, and from the command line and the environment as well.
#[test]
fn what_is_printed_comes_back_as_it_was() {
    let plain = settings(&[], &[], "").unwrap();
    comes_back(&plain);
    for setting in &plain.settings {
        let value = sample(setting, &plain);
        let flag = setting.argument(OsStr::new(&value));
        let variable = [(setting.variable.as_str(), value.as_str())];
        for settings in [
            settings(&[flag.to_str().unwrap()], &[], "").unwrap(),
            settings(&[], &variable, "").unwrap(),
        ] {
            let printed = settings.to_toml().unwrap();
            let line = printed
                .lines()
                .find(|line| line.starts_with(&format!("{} = ", setting.key)))
                .unwrap_or_else(|| panic!("{} is not in:\n{printed}", setting.key));
            let origin = settings.origin(&setting.key);
            assert_ne!(*origin, Origin::Default);
            assert!(line.ends_with(&format!("  # {origin}")), "{line}");
            assert_ne!(values(&settings), values(&plain), "{value} is no default");
            comes_back(&settings);
        }
    }
}

#[test]
fn odd_texts_come_back_as_they_were() {
    let odd = "a\n\"b\"\t'''c\u{1b}[0m\\ é # \u{2028}";
    let settings = settings(
        &["--env", &format!("X={odd}"), "--pidfile", odd, odd, odd],
        &[],
        "listen = []",
    )
    .unwrap();
    comes_back(&settings);
}

#[test]
fn a_value_that_no_file_can_say_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let words: [&[u8]; 3] = [b"rr-master", b"--pidfile", b"\xff"];
    let source = Source::new(words.map(OsStr::from_bytes), []);
    let printed = source.read().unwrap().to_toml();
    assert!(printed.unwrap_err().line().contains("not UTF-8"));
}

#[test]
fn a_file_that_changes_is_read_as_it_is_now() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.toml");
    let words = [
        "rr-master".into(),
        "--config".into(),
        path.clone().into_os_string(),
    ];
    let source = Source::new(words, []);
    let write = |text| std::fs::write(&path, text).unwrap();

    write("program = '/bin/true'\nworkers = 2");
    let old = source.config().unwrap();
    assert_eq!(diff(&old, &source.config().unwrap()), []);

    write("program = '/bin/true'\nworkers = 3");
    let new = source.config().unwrap();
    let changes: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["workers: 2 -> 3"]);

    write("workers = 'x'");
    assert!(source.config().unwrap_err().contains("key \"workers\""));
    std::fs::remove_file(&path).unwrap();
    assert!(source.config().unwrap_err().contains("ENOENT"));
}

#[test]
fn another_thread_than_the_loop_may_read() {
    fn lends_itself<T: Clone + Send + Sync + 'static>() {}
    lends_itself::<Source>();
}

/// Reads what it prints.
#[track_caller]
fn comes_back(first: &Settings) {
    let printed = first.to_toml().unwrap();
    let again = settings(&[], &[], &printed).unwrap_or_else(|err| panic!("{err}\n{printed}"));
    assert_eq!(values(&again), values(first), "{printed}");
    let table = |text: &str| text.parse::<toml::Table>().unwrap();
    assert_eq!(table(&again.to_toml().unwrap()), table(&printed));
}

/// Everything but where the file is.
fn values(settings: &Settings) -> String {
    let all = format!("{:?}", settings.args);
    let (before, rest) = all.split_once("configuration: ").unwrap();
    let (_, after) = rest.split_once('}').unwrap();
    format!("{before}{after}")
}

/// A value that the setting takes, and that is not its default.
fn sample(setting: &Setting, plain: &Settings) -> String {
    let mut command = setting::command();
    let arg = command
        .get_arguments()
        .find(|arg| *arg.get_id() == setting.id);
    let possible = arg.unwrap().get_possible_values();
    let possible = possible.iter().map(|value| value.get_name().to_owned());
    let candidates: Vec<String> = possible.chain(SAMPLES.map(str::to_owned)).collect();
    let default = plain.matches.get_raw(setting.id.as_str());
    let default: Vec<&OsStr> = default.into_iter().flatten().collect();
    let fits = |value: &String| {
        let words = ["rr-master".into(), setting.argument(OsStr::new(value))];
        command.try_get_matches_from_mut(words).is_ok() && default != [OsStr::new(value)]
    };
    let mut candidates = candidates.into_iter();
    candidates
        .find(fits)
        .unwrap_or_else(|| panic!("SAMPLES has nothing that --{} takes", setting.key))
}

/// Of each form that values have.
const SAMPLES: [&str; 18] = [
    "QUIT",
    "7",
    "7s",
    "7ms",
    "70%",
    "7MiB",
    "1s..7s",
    "7/7s",
    "NAME=value",
    "127.0.0.1:7",
    "debug",
    "root",
    "/tmp/seven",
    "nofile=7",
    "null",
    "name=\"seven\"",
    "delay=7s",
    "random",
];

fn settings(flags: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Settings, String> {
    settings_in(flags, variables, Some(file))
}

fn settings_in(
    flags: &[&str],
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Settings, String> {
    let named = file.map_or(&[][..], |_| &["--config", FILE]);
    let words = [&["rr-master"][..], named, flags].concat();
    let variables = variables.iter();
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let source = Source::new(words, variables);
    let read = source.read_with(|_| Ok(file.unwrap_or_default().as_bytes().to_vec()));
    read.map_err(|unread| Failure::from(unread).line())
}

fn unchecked(settings: Settings) -> Result<Config, String> {
    let config = settings.unchecked_config();
    config.map(|(config, _)| config).map_err(|err| err.line())
}

fn config(settings: &Settings) -> Config {
    settings.unchecked_config().unwrap().0
}

fn file_origin() -> Origin {
    Origin::File(FILE.into())
}

const FILE: &str = "app.toml";
