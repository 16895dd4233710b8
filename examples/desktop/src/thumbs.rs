//! Small pictures, decoded beside the window and kept as textures.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};

use eframe::egui::{ColorImage, Context, TextureHandle, TextureOptions};
use image::ImageDecoder as _;

/// The longer side of a small picture.
const SMALL: u32 = 256;
/// The longer side of the one that is looked at.
const LARGE: u32 = 1024;
/// Textures that are kept.
const MOST: usize = 600;

/// A picture in one of two sizes.
type Key = (PathBuf, bool);

#[derive(Default)]
struct Wanted {
    /// The latest last: what was just scrolled to comes first.
    keys: Vec<Key>,
    closed: bool,
}

/// Textures by path. Threads decode what was asked for last, first.
pub struct Thumbs {
    shared: Arc<(Mutex<Wanted>, Condvar)>,
    made: mpsc::Receiver<(Key, Option<ColorImage>)>,
    textures: HashMap<Key, (Option<TextureHandle>, u64)>,
    asked: HashSet<Key>,
    frame: u64,
}

impl Thumbs {
    pub fn new(context: &Context) -> Thumbs {
        let shared: Arc<(Mutex<Wanted>, Condvar)> = Arc::default();
        let (send, made) = mpsc::channel();
        // The model decodes, too: half of the cores are its own.
        let threads = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4));
        for _ in 0..threads {
            let (shared, send, context) = (shared.clone(), send.clone(), context.clone());
            std::thread::spawn(move || {
                while let Some(key) = next(&shared) {
                    let picture = decode(&key.0, if key.1 { LARGE } else { SMALL });
                    if send.send((key, picture)).is_err() {
                        return;
                    }
                    context.request_repaint();
                }
            });
        }
        Thumbs { shared, made, textures: HashMap::new(), asked: HashSet::new(), frame: 0 }
    }

    /// Takes in what was decoded since the last frame.
    pub fn begin_frame(&mut self, context: &Context) {
        self.frame += 1;
        // A few a frame: each is copied to the GPU.
        for (key, picture) in self.made.try_iter().take(8) {
            let name = key.0.to_string_lossy().into_owned();
            let texture = picture.map(|picture| context.load_texture(name, picture, TextureOptions::LINEAR));
            self.asked.remove(&key);
            self.textures.insert(key, (texture, self.frame));
        }
        if self.textures.len() > MOST {
            let mut ages: Vec<u64> = self.textures.values().map(|(_, seen)| *seen).collect();
            ages.sort_unstable();
            let oldest = ages[self.textures.len() - MOST].min(self.frame - 1);
            self.textures.retain(|_, (_, seen)| *seen >= oldest);
        }
        // What is no longer to be seen is not waited for.
        let mut wanted = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.keys.len() > MOST / 2 {
            let drop = wanted.keys.len() - MOST / 2;
            for key in wanted.keys.drain(..drop) {
                self.asked.remove(&key);
            }
        }
    }

    /// A small picture, once it is decoded; none where it cannot be.
    pub fn small(&mut self, path: &Path) -> Option<TextureHandle> {
        self.get(path, false)
    }

    /// A large one; the small one until it is decoded.
    pub fn large(&mut self, path: &Path) -> Option<TextureHandle> {
        self.get(path, true).or_else(|| self.get(path, false))
    }

    fn get(&mut self, path: &Path, large: bool) -> Option<TextureHandle> {
        let key = (path.to_path_buf(), large);
        if let Some((texture, seen)) = self.textures.get_mut(&key) {
            *seen = self.frame;
            return texture.clone();
        }
        if self.asked.insert(key.clone()) {
            self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).keys.push(key);
            self.shared.1.notify_one();
        }
        None
    }
}

impl Drop for Thumbs {
    fn drop(&mut self) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.1.notify_all();
    }
}

fn next((wanted, told): &(Mutex<Wanted>, Condvar)) -> Option<Key> {
    let mut wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if wanted.closed {
            return None;
        }
        if let Some(key) = wanted.keys.pop() {
            return Some(key);
        }
        wanted = told.wait(wanted).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Decodes a file, upright, with its longer side at most `most`.
fn decode(path: &Path, most: u32) -> Option<ColorImage> {
    let mut decoder = image::ImageReader::open(path).ok()?.with_guessed_format().ok()?.into_decoder().ok()?;
    let orientation = decoder.orientation().ok()?;
    let mut picture = image::DynamicImage::from_decoder(decoder).ok()?;
    if picture.width().max(picture.height()) > most {
        picture = picture.thumbnail(most, most);
    }
    picture.apply_orientation(orientation);
    let pixels = picture.into_rgba8();
    let size = [pixels.width() as usize, pixels.height() as usize];
    Some(ColorImage::from_rgba_unmultiplied(size, &pixels))
}
