//! A virtual screen with the program on it, its pointer and its keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The longest that anything may take, on a busy machine without a GPU.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether there is what it takes to drive a window.
pub fn tools() -> bool {
    let missing: Vec<&str> = ["Xvfb", "xdotool", "import"]
        .into_iter()
        .filter(|tool| {
            let found = std::env::var_os("PATH")
                .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).exists()));
            !found
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    let text = format!(
        "no window can be driven here: {} missing (apt-get install xvfb xdotool imagemagick)",
        missing.join(", ")
    );
    assert!(std::env::var_os("TIPI_DRIVE").is_none(), "{text}");
    println!("{text}");
    false
}

pub struct Screen {
    server: Child,
    program: Child,
    display: String,
    marks: PathBuf,
    log: PathBuf,
}

impl Screen {
    /// Starts the program on a screen of its own, so many pixels to a point.
    pub fn start(scratch: &Path, scale: f32, args: &[&str]) -> Screen {
        let chosen = scratch.join("display");
        let size = format!("{}x{}x24", (1200.0 * scale) as u32, (780.0 * scale) as u32);
        // The server chooses a free number, and writes it.
        let server = Command::new("sh")
            .arg("-c")
            .arg(format!("exec Xvfb -displayfd 3 -screen 0 {size} -nolisten tcp 3>'{}' 2>/dev/null", chosen.display()))
            .spawn()
            .expect("Xvfb");
        let began = Instant::now();
        let display = loop {
            match fs::read_to_string(&chosen) {
                Ok(number) if number.ends_with('\n') => break format!(":{}", number.trim()),
                _ => sleep(Duration::from_millis(50)),
            }
            assert!(began.elapsed() < PATIENCE, "Xvfb does not start");
        };
        let (marks, log) = (scratch.join("marks.json"), scratch.join("log"));
        let program = Command::new(env!("CARGO_BIN_EXE_tipi-sorter"))
            .env("DISPLAY", &display)
            .env_remove("WAYLAND_DISPLAY")
            .env("WINIT_X11_SCALE_FACTOR", scale.to_string())
            .env("TIPI_TUNE", "off")
            .args(args)
            .arg("--marks")
            .arg(&marks)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut screen = Screen { server, program, display, marks, log };
        screen.wait("the window is there", |_| true);
        // Without a window manager nobody gives it the keyboard.
        let window = screen.window();
        screen.xdotool(&["windowmove", &window, "0", "0"]);
        screen.xdotool(&["windowfocus", &window]);
        screen
    }

    /// The window's number, once it is shown.
    fn window(&self) -> String {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let mut search = Command::new("xdotool");
            search.env("DISPLAY", &self.display).args(["search", "--onlyvisible", "--name", "tipi sorter"]);
            let found = search.output().expect("xdotool").stdout;
            if let Some(window) = String::from_utf8_lossy(&found).lines().next() {
                return window.to_owned();
            }
            sleep(Duration::from_millis(100));
        }
        panic!("no window is shown");
    }

    fn xdotool(&self, args: &[&str]) -> String {
        let output = Command::new("xdotool").env("DISPLAY", &self.display).args(args).output().expect("xdotool");
        assert!(output.status.success(), "xdotool {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn read(&mut self) -> Option<Value> {
        if let Some(status) = self.program.try_wait().unwrap() {
            panic!("the program ended with {status}: {}", fs::read_to_string(&self.log).unwrap_or_default());
        }
        serde_json::from_str(&fs::read_to_string(&self.marks).ok()?).ok()
    }

    /// Waits until the program's state is as asked for.
    pub fn wait(&mut self, what: &str, until: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut last = Value::Null;
        while began.elapsed() < PATIENCE {
            if let Some(marks) = self.read() {
                if until(&marks["state"]) {
                    return marks["state"].clone();
                }
                last = marks["state"].clone();
            }
            sleep(Duration::from_millis(50));
        }
        self.shot("failed");
        panic!("it does not come to this: {what}; {last}; {}", fs::read_to_string(&self.log).unwrap_or_default());
    }

    /// The same, for what is sure to come.
    pub fn watch(&mut self, until: impl Fn(&Value) -> bool) -> Value {
        self.wait("what was watched for", until)
    }

    /// The middle of a thing and its size, once it lies still.
    fn find(&mut self, name: &str) -> [f64; 4] {
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < PATIENCE {
            let marks = self.read();
            let at = marks.as_ref().and_then(|marks| marks["at"][name].as_array()).map(|at| {
                let number = |i: usize| at[i].as_f64().unwrap();
                [number(0), number(1), number(2), number(3)]
            });
            match at {
                Some(at) if last == Some(at) => return at,
                other => last = other,
            }
            sleep(Duration::from_millis(80));
        }
        self.shot("failed");
        panic!("there is no '{name}' in the window; {:?}", self.read().map(|marks| marks["at"].clone()));
    }

    /// Does something, and waits until the window has been drawn with it.
    fn drawn(&mut self, act: impl FnOnce(&Screen)) {
        let before = self.read().map_or(0, |marks| marks["frame"].as_u64().unwrap());
        act(self);
        let began = Instant::now();
        // Two: one may have been under way. What changes nothing draws nothing.
        while began.elapsed() < Duration::from_millis(800) {
            if self.read().is_some_and(|marks| marks["frame"].as_u64().unwrap() >= before + 2) {
                return;
            }
            sleep(Duration::from_millis(15));
        }
    }

    fn to(&mut self, x: f64, y: f64) {
        self.drawn(|screen| drop(screen.xdotool(&["mousemove", &format!("{x:.0}"), &format!("{y:.0}")])));
    }

    fn press(&mut self) {
        self.drawn(|screen| drop(screen.xdotool(&["mousedown", "1"])));
    }

    fn release(&mut self) {
        self.drawn(|screen| drop(screen.xdotool(&["mouseup", "1"])));
    }

    pub fn click(&mut self, name: &str) {
        let [x, y, ..] = self.find(name);
        self.to(x, y);
        self.tap();
    }

    /// Down and up at once: what is held for long is no click.
    fn tap(&mut self) {
        self.drawn(|screen| drop(screen.xdotool(&["click", "1"])));
    }

    /// Turns the wheel over the photos until one of them is in sight.
    pub fn bring(&mut self, photo: &str) {
        let [x, y, ..] = self.find("sequence");
        // The photos begin below the bar.
        self.to(x, y + 200.0);
        for way in ["4", "5"] {
            for _ in 0..30 {
                if self.read().is_some_and(|marks| !marks["at"][photo].is_null()) {
                    return;
                }
                self.drawn(|screen| drop(screen.xdotool(&["click", way])));
            }
        }
        panic!("{photo} does not come in sight");
    }

    /// Drags one thing onto another, in steps as a hand does.
    pub fn drag(&mut self, from: &str, onto: &str) {
        let [x, y, ..] = self.find(from);
        let [to_x, to_y, ..] = self.find(onto);
        self.to(x, y);
        self.press();
        for step in 1..=4 {
            let share = f64::from(step) / 4.0;
            self.to(x + (to_x - x) * share, y + (to_y - y) * share);
        }
        self.release();
    }

    /// Sets a slider to a share of its width from its left. It goes by the frames in which it is held.
    pub fn slide(&mut self, name: &str, share: f64) {
        let [x, y, width, _] = self.find(name);
        self.to(x - width / 2.0 + width * share, y);
        self.press();
        self.release();
    }

    pub fn text(&mut self, text: &str) {
        self.drawn(|screen| drop(screen.xdotool(&["type", "--delay", "30", text])));
    }

    pub fn key(&mut self, key: &str) {
        self.drawn(|screen| drop(screen.xdotool(&["key", key])));
    }

    /// A picture of the screen, which is not empty.
    pub fn shot(&self, name: &str) {
        let folder = std::env::var_os("TIPI_SHOTS").map_or_else(|| self.marks.with_file_name("shots"), PathBuf::from);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        let taken = Command::new("import").env("DISPLAY", &self.display).args(["-window", "root"]).arg(&path).status();
        assert!(taken.is_ok_and(|status| status.success()), "no picture of the screen");
        assert!(colours(&path) > 50, "{}: the window is empty", path.display());
    }
}

fn colours(path: &Path) -> usize {
    let picture = image::open(path).unwrap().into_rgb8();
    picture.pixels().collect::<std::collections::HashSet<_>>().len()
}

impl Drop for Screen {
    fn drop(&mut self) {
        for child in [&mut self.program, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
