// tipi for C and C++: few-shot CLIP on any GPU.
//
// Made by cbindgen from the sources in bindings/c/src; do not edit.
//
// Rules that hold for all functions:
//
// * Every function that can fail returns a TipiStatus. Where that is not TIPI_OK, tipi_last_error() tells in one line what is wrong
//   and what would be right, naming the file, tensor or argument; handles that were to be made are NULL, and other results are
//   as they were.
// * Nothing prints, nothing exits, and nothing unwinds into the caller.
// * Handles are numbers that look like pointers. What they stand for lives until tipi_free(handle). A handle that was freed, was never
//   one, or is one of another kind is TIPI_INVALID, and never touched. Parts hold what they need: a TipiModel may be freed while its
//   classifiers are in use, and they go on working. Handles may be used from several threads at once, and freed while others use
//   them: memory is given back when the last call ends.
// * Text is UTF-8 with its length in bytes (TipiStr), paths too. Text that is handed over is copied. It needs no NUL at its end; what
//   tipi gives has one, which is not counted.
// * Memory that is handed over (text, bytes, pixels, features, options) is copied, and belongs to the caller. Memory that is given
//   (TipiStr, arrays) belongs to the handle that it was asked of, is not to be written to, and is there until that handle is freed.
//   "Ownership" says so for each function.
// * Options are structures that begin with their own size. Set that, and all else to 0 for what is usual:
//   `TipiDeviceOptions options = {0}; options.size = sizeof options;`
// * Calls that may take long have a TipiWatch, which may be NULL. A callback is called on the thread that called the function, must not
//   throw or jump away, and may call tipi.
// * tipi starts threads that live as long as the process: do not unload the library.


#ifndef TIPI_H
#define TIPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// The ABI that this header describes. tipi_gpu_open takes it, and refuses to begin where the library has another.
#define TIPI_ABI_VERSION 1


// How a call ended. The kinds of failure are those of the library's `Error`.
typedef enum {
    // It did what was asked.
    TIPI_OK = 0,
    // It was asked to stop, and has stopped.
    TIPI_STOPPED = 1,
    // An argument is out of range, contradicts another, or is no handle.
    TIPI_INVALID = 2,
    // The library has another ABI than the header that the program was compiled with.
    TIPI_ABI = 3,
    // A defect in tipi: please report the message.
    TIPI_DEFECT = 4,
    // A failure that this version has no name for.
    TIPI_OTHER = 5,
    // No GPU at all is visible.
    TIPI_NO_DEVICE = 10,
    // The device that was asked for is not there.
    TIPI_DEVICE_NOT_FOUND = 11,
    // The device lacks what the work needs.
    TIPI_UNSUPPORTED = 12,
    // The driver reported an error.
    TIPI_GPU_FAILED = 13,
    // The device was lost.
    TIPI_DEVICE_LOST = 14,
    // Too little GPU memory.
    TIPI_OUT_OF_MEMORY = 15,
    // What was computed is NaN or infinite.
    TIPI_RESULT_NOT_FINITE = 16,
    // A file or folder could not be read or written.
    TIPI_IO = 20,
    // A result would overwrite a file of another kind.
    TIPI_FOREIGN = 21,
    // A safetensors file is damaged.
    TIPI_SAFETENSORS = 22,
    // A file of PyTorch's is damaged.
    TIPI_TORCH = 23,
    // A tensor is missing.
    TIPI_MISSING_TENSOR = 24,
    // A tensor has another shape or type.
    TIPI_TENSOR_FORM = 25,
    // A tensor holds NaN or infinity.
    TIPI_NOT_FINITE = 26,
    // A configuration file is malformed.
    TIPI_CONFIG = 27,
    // A picture could not be decoded.
    TIPI_IMAGE = 28,
    // A folder or list of pictures cannot be used as asked.
    TIPI_DATA = 29,
    // A known dataset was asked for by its name alone.
    TIPI_NO_ROOT = 30,
    // An adapter file is malformed, or belongs to another model.
    TIPI_ADAPTER_FILE = 31,
    // A model could not be fetched.
    TIPI_HUB = 32,
    // A training diverged.
    TIPI_DIVERGED = 33,
} TipiStatus;

// What features are of.
typedef enum {
    // Pictures.
    TIPI_OF_PICTURES = 0,
    // Texts.
    TIPI_OF_TEXTS = 1,
} TipiFeatureKind;

// What becomes of greyscale of 16 bits in files.
typedef enum {
    // It is clipped to 0…255, as by Pillow.
    TIPI_CLIP = 0,
    // 0…65535 is scaled to 0…255.
    TIPI_SCALE = 1,
} TipiDepth;

// How the frozen matrices are stored.
typedef enum {
    // 32-bit floats.
    TIPI_F32 = 0,
    // 16-bit floats: half the memory.
    TIPI_F16 = 1,
    // 8-bit integers: a quarter.
    TIPI_INT8 = 2,
} TipiPrecision;

// What the unknown is told by.
typedef enum {
    // The likeliest class' probability.
    TIPI_BY_PROBABILITY = 0,
    // log Σ exp(score).
    TIPI_BY_ENERGY = 1,
    // The distance from the most similar picture that was learned from.
    TIPI_BY_DISTANCE = 2,
} TipiUnknownBy;

// Bytes: of an adapter's file.
typedef struct TipiBytes TipiBytes;

// A method that has learned, bound to its model: it tells classes apart.
typedef struct TipiClassifier TipiClassifier;

// An overlap correction (arXiv 2409.11338) of a model.
typedef struct TipiCorrection TipiCorrection;

// The devices that there are.
typedef struct TipiDevices TipiDevices;

// Pictures with their classes, to learn from and to validate on. What a fit computes of them is remembered: the next one, with an
// example more or moved, takes little time.
typedef struct TipiExamples TipiExamples;

// Un-normalised features, a row for each picture or text.
typedef struct TipiFeatures TipiFeatures;

// Pictures' features on a device, to look for those most like a picture, a text, or each other.
typedef struct TipiGallery TipiGallery;

// An open device.
typedef struct TipiGpu TipiGpu;

// Messages, each with its status: of pictures that were left out.
typedef struct TipiMessages TipiMessages;

// A frozen CLIP on a device.
typedef struct TipiModel TipiModel;

// Lists of rows that are near.
typedef struct TipiNeighbours TipiNeighbours;

// A list of pictures, to encode, to learn from or to look at.
typedef struct TipiPictures TipiPictures;

// What a classifier says of pictures.
typedef struct TipiPredictions TipiPredictions;

// How learning went.
typedef struct TipiReport TipiReport;

// A wish to stop, which any thread may have: calls with it in their `TipiWatch` end with `TIPI_STOPPED` once the GPU has done
// what it was last given.
typedef struct TipiStop TipiStop;

// A text.
typedef struct TipiText TipiText;

// Text in UTF-8, `length` bytes long. What tipi gives has a NUL after its last byte, which is not counted; what it is given needs none.
// `data` may be NULL where `length` is 0.
typedef struct {
    // Its first byte.
    const char *data;
    // Bytes.
    size_t length;
} TipiStr;

// A device that there is.
typedef struct {
    // Its index, as text of which `TipiDeviceOptions.device` takes it.
    size_t index;
    // Its name.
    TipiStr name;
    // "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    TipiStr kind;
    // Vulkan, Metal, Dx12, …
    TipiStr backend;
    // The driver's name and version.
    TipiStr driver;
    // Features of it that tipi uses, with commas between them.
    TipiStr uses;
    // Whether it would be picked where none is asked for.
    bool is_default;
} TipiDevice;

// How a device is opened.
typedef struct {
    // `sizeof(TipiDeviceOptions)`.
    size_t size;
    // Index or part of the name of the device; where it is empty, what the environment variable TIPI_DEVICE says, else the best one.
    TipiStr device;
    // The folder for compiled pipelines and what was measured; where it is empty, TIPI_CACHE_DIR, else the user's cache folder.
    TipiStr cache;
    // Bytes of GPU memory that may be used; where it is 0, TIPI_MEMORY (in MiB), else what the driver says there is.
    uint64_t memory;
    // 1 keeps index and loop checks in the shaders, -1 leaves them out; 0 does what TIPI_CHECKED says, else what the build is for.
    int32_t checked;
    // 1 chooses kernels by measuring them, -1 does not; 0 does what TIPI_TUNE says, else measures.
    int32_t tune;
    // Not 0: uses no optional feature of the device.
    int32_t portable;
} TipiDeviceOptions;

// What an open device is, and how much of its memory is in use.
typedef struct {
    // Its name.
    TipiStr name;
    // "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    TipiStr kind;
    // Name, kind, backend and why this device was taken, in one line.
    TipiStr description;
    // Bytes of GPU memory that may be used in all; 0 where the driver does not say.
    uint64_t memory;
    // Bytes that models and what runs them take, or that are kept for reuse.
    uint64_t allocated;
    // The most that `allocated` was at one time.
    uint64_t peak;
} TipiGpuInfo;

// The values of features.
typedef struct {
    // `rows * width` values, row after row.
    const float *values;
    // Rows.
    size_t rows;
    // Values of a row.
    size_t width;
    // What they are of.
    TipiFeatureKind kind;
} TipiMatrix;

// A row that is near.
typedef struct {
    // Its number.
    size_t row;
    // Cosine of the angle between the two, from -1 to 1.
    float cosine;
} TipiNeighbour;

// How far long work is.
typedef struct {
    // What is being done: "encoding pictures".
    TipiStr what;
    // Parts of it that are done.
    uint64_t done;
    // Parts in all.
    uint64_t total;
    // What may stand beside it: an epoch, a loss. Empty where there is nothing.
    TipiStr beside;
} TipiProgress;

// Called where progress changes, on the thread that called tipi. Another result than 0 stops the work, which ends with
// `TIPI_STOPPED`. The progress and its texts are there until it returns.
typedef int32_t (*TipiOnProgress)(void *data, const TipiProgress *progress);

// Called with what people should know, on the thread that called tipi. The text is there until it returns.
typedef void (*TipiOnNote)(void *data, TipiStr note);

// What watches long work. All but `size` may be 0.
typedef struct {
    // `sizeof(TipiWatch)`.
    size_t size;
    // Called where progress changes.
    TipiOnProgress progress;
    // Called with notes.
    TipiOnNote note;
    // Given to both.
    void *data;
    // Stops the work from another thread.
    const TipiStop *stop;
} TipiWatch;

// How a model is loaded.
typedef struct {
    // `sizeof(TipiModelOptions)`.
    size_t size;
    // A folder with a LoRA that PEFT saved, which is merged; empty for none.
    TipiStr lora;
    // A `TipiPrecision`.
    int32_t precision;
    // A `TipiDepth`.
    int32_t depth;
    // Not 0: `model` may also be a model on the Hugging Face hub, as ORG/NAME or ORG/NAME@REVISION, and is fetched where the cache that Python
    // shares has it not.
    int32_t fetch;
} TipiModelOptions;

// What a model is.
typedef struct {
    // The folder that it was loaded from.
    TipiStr folder;
    // Values of a picture's or a text's features.
    size_t width;
} TipiModelInfo;

// How much there is in examples.
typedef struct {
    // Classes.
    size_t classes;
    // Pictures to learn from.
    size_t support;
    // Pictures to validate on.
    size_t validation;
} TipiExamplesInfo;

// A way to learn from few pictures.
typedef struct {
    // The name that options and files have.
    TipiStr name;
    // The name that people read.
    TipiStr title;
    // What it does, in a sentence.
    TipiStr about;
    // Where it was published.
    TipiStr paper;
    // Whether it needs a correction.
    bool needs_correction;
    // Whether it trains, which takes longer than a method that only computes.
    bool trains;
} TipiMethod;

// How to learn.
typedef struct {
    // `sizeof(TipiFitOptions)`.
    size_t size;
    // The method's name: one of `tipi_method_get`. It must be given.
    TipiStr method;
    // Its settings, as a JSON object: {"epochs": 20}. What is not in it, or all where it is empty, is the paper's. `tipi_method_settings`
    // tells what there is.
    TipiStr settings;
    // How pictures are seen and parameters searched, as a JSON object of key_views, augment, views, grid and judge_by ("left-out" or
    // "validation"). What is not in it, or all where it is empty, is the papers'.
    TipiStr how;
    // Prompts with {} where the class's name goes; several are averaged. NULL for "a photo of a {}.".
    const TipiStr *templates;
    // How many there are.
    size_t template_count;
    // The prompt's words before the class's name, for PiNI; where it is empty, those of the first template.
    TipiStr words;
    // For methods that need one, or become another with one; NULL for none.
    const TipiCorrection *correction;
    // Seed of views and of training, counted where `has_seed` is not 0; else it is 1. The same seed gives the same adapter, to the bit,
    // on the same device.
    uint64_t seed;
    // Whether `seed` counts.
    int32_t has_seed;
    // A file that keeps a training's state on its way: one that was stopped goes on from it, with the same examples and options,
    // and ends with the same bytes. It is removed once all is learned. Where it is empty, what was stopped is lost.
    TipiStr checkpoint;
} TipiFitOptions;

// How learning went.
typedef struct {
    // Share of validation pictures that are right, from 0 to 1; NaN where there are none.
    double validation_accuracy;
    // Validation pictures.
    size_t validation_pictures;
    // Cross-entropy by epoch, where something was trained.
    const float *losses;
    // How many there are.
    size_t loss_count;
} TipiReportInfo;

// What a correction is.
typedef struct {
    // What it is, for people: "64 wide, scale 0.03, 1 epoch over 400 classes".
    TipiStr facts;
    // Passes over the pictures that it was trained with.
    size_t epochs;
    // How many classes it was trained to tell apart; 0 where it was trained without labels.
    size_t classes;
} TipiCorrectionInfo;

// What a classifier is.
typedef struct {
    // Classes.
    size_t classes;
    // The name of the method that learned it; empty for one that is not in the register.
    TipiStr method;
    // What it found, for people: "alpha 1.200, beta 5.500"; empty where there is nothing to tell.
    TipiStr facts;
    // Probabilities are softmax(scores/T): T as it was fitted; NaN where there was nothing to fit it on, and T is 1.
    double temperature;
    // Validation pictures that its confidence rests on.
    size_t evidence_validation;
    // Pictures that it rests on which were left out of learning in turn.
    size_t evidence_left_out;
    // The highest coverage, or share to keep, that the evidence supports, of pictures of all classes together.
    double supported;
    // The same of each class.
    double supported_per_class;
    // Whether `tipi_classifier_predict_features` works for it.
    bool takes_features;
    // Where pictures may have several classes: for each class, from which score on a picture has it. Else NULL.
    const double *thresholds;
} TipiClassifierInfo;

// A class, and what is said of it.
typedef struct {
    // Its number among the classes.
    size_t class_number;
    // Its name.
    TipiStr name;
    // Its probability, from 0 to 1.
    double probability;
    // Its logit, from which the probabilities are made.
    float score;
} TipiScored;

// What a classifier says of a picture.
typedef struct {
    // `TIPI_OK`, or why there is no answer: all else is then 0 or empty.
    TipiStatus status;
    // What went wrong; empty where there is an answer.
    TipiStr message;
    // Whether the answer is "unknown": the likeliest class is less probable, or the picture less familiar, than the classifier was told to
    // ask for.
    bool unknown;
    // The likeliest class, however probable it is.
    TipiScored best;
    // How much the picture is like those of the classes, by what `tipi_classifier_keeping` was told: the more the higher. NaN where that was
    // not asked for.
    double familiarity;
    // Logits by class.
    const float *scores;
    // Probabilities by class; they add up to 1.
    const double *probabilities;
    // Classes.
    size_t classes;
} TipiPrediction;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The ABI of the library: `TIPI_ABI_VERSION` of the header that it was built with.
//
// Ownership: none.
uint32_t tipi_abi_version(void);

// The library's version, as "0.1.0".
//
// Ownership: the text is there as long as the process is.
TipiStr tipi_version(void);

// What went wrong in the last call on this thread that did not return `TIPI_OK`, in one line; empty where none failed.
//
// Ownership: the text is this thread's, and there until the next call of tipi on it that fails.
TipiStr tipi_last_error(void);

// A status in words, as "out of GPU memory". `status` is a `TipiStatus`; "unknown status" for another number.
//
// Ownership: the text is there as long as the process is.
TipiStr tipi_status_name(int32_t status);

// Frees what a handle of any kind stands for, and all that was given of it. What other handles need of it stays. NULL does nothing.
// `TIPI_INVALID` for what is no handle, or was freed before.
//
// Ownership: the handle is gone, whatever this returns.
TipiStatus tipi_free(void *handle);

// How many handles there are that were not freed, of all kinds: to look for leaks, which tools that know only pointers do not see.
//
// Ownership: none.
size_t tipi_live_handles(void);

// What a text says.
//
// Ownership: `*content` is the text's.
TipiStatus tipi_text_get(const TipiText *text, TipiStr *content);

// Where bytes lie, and how many.
//
// Ownership: `*data` is that of `bytes`.
TipiStatus tipi_bytes_get(const TipiBytes *bytes, const uint8_t **data, size_t *length);

// How many messages there are.
//
// Ownership: none.
TipiStatus tipi_messages_count(const TipiMessages *messages, size_t *count);

// The message of this number, from 0 on, and its status. `status` may be NULL.
//
// Ownership: `*message` is that of `messages`.
TipiStatus tipi_messages_get(const TipiMessages *messages, size_t number, TipiStatus *status, TipiStr *message);

// Makes a wish to stop that nobody has yet.
//
// Ownership: `*stop` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_stop_new(TipiStop **stop);

// Wishes it, from any thread. All calls that watch it end with `TIPI_STOPPED`, now and later.
//
// Ownership: none.
TipiStatus tipi_stop_now(const TipiStop *stop);

// Looks for devices. None opens one.
//
// Ownership: `*devices` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_devices_list(TipiDevices **devices);

// How many devices there are.
//
// Ownership: none.
TipiStatus tipi_devices_count(const TipiDevices *devices, size_t *count);

// The device of this number, from 0 on.
//
// Ownership: the texts of `*device` are those of `devices`.
TipiStatus tipi_devices_get(const TipiDevices *devices, size_t number, TipiDevice *device);

// Opens a device: the one that the options ask for, else the best: discrete before integrated before CPU. Everything begins here, so
// `abi` must be `TIPI_ABI_VERSION`: the program and the library agree, or nothing is done. `device_options` may be NULL.
//
// Ownership: `*gpu` is the caller's, to be freed with `tipi_free`. What is made on the device keeps it open.
TipiStatus tipi_gpu_open(uint32_t abi,
                         const TipiDeviceOptions *device_options,
                         TipiGpu **gpu);

// What a device is, and how much of its memory is in use.
//
// Ownership: the texts of `*info` are those of `gpu`.
TipiStatus tipi_gpu_info(const TipiGpu *gpu, TipiGpuInfo *info);

// Gives back GPU memory that is kept for reuse. What is made next takes a little longer.
//
// Ownership: none.
TipiStatus tipi_gpu_release(const TipiGpu *gpu);

// Whether the device is well: the first error that the driver reported, if any. A program that has been asleep learns so that its
// device is lost.
//
// Ownership: none.
TipiStatus tipi_gpu_check(const TipiGpu *gpu);

// Makes an empty list.
//
// Ownership: `*pictures` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_pictures_new(TipiPictures **pictures);

// Adds the picture in a PNG, JPEG, WebP, GIF, BMP or TIFF file, and as the library was built in an AVIF, JPEG XL or HEIC file. It is read when
// it is used.
//
// Ownership: `path` is copied.
TipiStatus tipi_pictures_add_file(TipiPictures *pictures,
                                  TipiStr path);

// Adds all pictures in a folder and the folders below it, in the order of their paths. What systems and photo programs hide is passed over.
// `added` is how many; it may be NULL.
//
// Ownership: `folder` is copied.
TipiStatus tipi_pictures_add_folder(TipiPictures *pictures,
                                    TipiStr folder,
                                    size_t *added);

// Adds the picture in the `length` bytes of such a file. `name` names it in errors. It is decoded when it is used.
//
// Ownership: `name` and `bytes` are copied.
TipiStatus tipi_pictures_add_encoded(TipiPictures *pictures, TipiStr name, const uint8_t *bytes, size_t length);

// Adds the picture of `height` rows of `width` pixels of three bytes (red, green, blue), the rows `stride` bytes apart: `3 * width`
// where nothing is between them. `length` is `stride * height`; what follows the last row may be left out. `name` names the picture in errors.
//
// Ownership: `name` and `bytes` are copied.
TipiStatus tipi_pictures_add_rgb(TipiPictures *pictures,
                                 TipiStr name,
                                 size_t width,
                                 size_t height,
                                 size_t stride,
                                 const uint8_t *bytes,
                                 size_t length);

// As `tipi_pictures_add_rgb`, with four bytes a pixel (red, green, blue, alpha). Alpha is dropped, as in files.
//
// Ownership: `name` and `bytes` are copied.
TipiStatus tipi_pictures_add_rgba(TipiPictures *pictures,
                                  TipiStr name,
                                  size_t width,
                                  size_t height,
                                  size_t stride,
                                  const uint8_t *bytes,
                                  size_t length);

// How many pictures are in the list.
//
// Ownership: none.
TipiStatus tipi_pictures_count(const TipiPictures *pictures, size_t *count);

// Takes all pictures out of the list.
//
// Ownership: none.
TipiStatus tipi_pictures_clear(TipiPictures *pictures);

// The path of the picture of this number, from 0 on, or the name that a picture in memory was given.
//
// Ownership: `*name` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_pictures_name(const TipiPictures *pictures, size_t number, TipiText **name);

// Reads and decodes the picture of this number, from 0 on, to see whether that can be done. Gives its width and height, upright, in pixels.
//
// Ownership: none.
TipiStatus tipi_pictures_check(const TipiPictures *pictures,
                               size_t number,
                               size_t *width,
                               size_t *height);

// Features that were kept: `rows * width` values, row after row. `kind` is a `TipiFeatureKind`.
//
// Ownership: `values` are copied. `*features` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_features_new(int32_t kind, const float *values, size_t rows, size_t width, TipiFeatures **features);

// The values.
//
// Ownership: those of `*matrix` are those of `features`.
TipiStatus tipi_features_get(const TipiFeatures *features, TipiMatrix *matrix);

// Cosines `[pictures, texts]` of every picture with every text, picture after picture. `count` is how many `cosines` has place for, and
// must be the product of both numbers of rows.
//
// Ownership: `cosines` is the caller's, and written to.
TipiStatus tipi_features_cosines(const TipiFeatures *pictures,
                                 const TipiFeatures *texts,
                                 float *cosines,
                                 size_t count);

// For every picture the `most` of `others` that are most like it, the nearest first. It compares on the processor, which is quick for some
// thousand pictures; for more there is `TipiGallery`. Both are features of pictures.
//
// Ownership: `*neighbours` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_features_nearest(const TipiFeatures *pictures,
                                 const TipiFeatures *others,
                                 size_t most,
                                 TipiNeighbours **neighbours);

// How many lists there are: one for each row that was asked about, or for each group.
//
// Ownership: none.
TipiStatus tipi_neighbours_count(const TipiNeighbours *neighbours, size_t *count);

// The list of this number, from 0 on.
//
// Ownership: `*list` is that of `neighbours`.
TipiStatus tipi_neighbours_get(const TipiNeighbours *neighbours,
                               size_t number,
                               const TipiNeighbour **list,
                               size_t *count);

// Makes a gallery of features of pictures, which are kept on the device where they fit there.
//
// Ownership: `*gallery` is the caller's, to be freed with `tipi_free`. It keeps a copy of the features, and the device open.
TipiStatus tipi_gallery_new(const TipiGpu *gpu,
                            const TipiFeatures *features,
                            TipiGallery **gallery);

// How many pictures a gallery has, and how wide their features are.
//
// Ownership: none.
TipiStatus tipi_gallery_size(const TipiGallery *gallery, size_t *rows, size_t *width);

// For each row of `features`, of pictures or texts, the `most` pictures of the gallery that are most like it, the nearest first; of
// equally near ones the lower number comes first. Fewer where the gallery has fewer. `watch` may be NULL.
//
// Ownership: `*neighbours` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_gallery_nearest(const TipiGallery *gallery,
                                const TipiFeatures *features,
                                size_t most,
                                const TipiWatch *watch,
                                TipiNeighbours **neighbours);

// For each picture of the gallery the `most` others that are most like it, as `tipi_gallery_nearest`. `watch` may be NULL.
//
// Ownership: `*neighbours` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_gallery_nearest_others(const TipiGallery *gallery,
                                       size_t most,
                                       const TipiWatch *watch,
                                       TipiNeighbours **neighbours);

// Groups of pictures that are nearly the same. A group begins with its picture of the lowest number, and each other one's cosine with
// that, which is given with it, is `least` or more. `watch` may be NULL.
//
// Ownership: `*groups` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_gallery_duplicates(const TipiGallery *gallery,
                                   double least,
                                   const TipiWatch *watch,
                                   TipiNeighbours **groups);

// Loads the model in a folder: Hugging Face's layout, open_clip's, or OpenAI's names, in safetensors or PyTorch's files; or a file of
// weights with what lies beside it. `model_options` and `watch` may be NULL; only fetching is watched.
//
// Ownership: `*loaded` is the caller's, to be freed with `tipi_free`. It keeps the device open.
TipiStatus tipi_model_load(const TipiGpu *gpu,
                           TipiStr model,
                           const TipiModelOptions *model_options,
                           const TipiWatch *watch,
                           TipiModel **loaded);

// What a model is.
//
// Ownership: the texts of `*info` are those of `model`.
TipiStatus tipi_model_info(const TipiModel *model, TipiModelInfo *info);

// SHA-256 of the weights and of what configures them, in hexadecimal: what adapters know a model by. The first call reads all weights.
//
// Ownership: `*digest` is that of `model`.
TipiStatus tipi_model_digest(const TipiModel *model,
                             TipiStr *digest);

// Gives back the GPU memory that was kept for the next pictures. They take a little longer then.
//
// Ownership: none.
TipiStatus tipi_model_release(const TipiModel *model);

// Un-normalised features of pictures, a row for each in their order. The first picture that cannot be read or decoded is an error. `watch`
// may be NULL.
//
// Ownership: `*features` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_model_encode(const TipiModel *model,
                             const TipiPictures *pictures,
                             const TipiWatch *watch,
                             TipiFeatures **features);

// Un-normalised features of `count` texts, a row for each. What is longer than the model reads is cut.
//
// Ownership: `texts_given` are copied. `*features` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_model_encode_texts(const TipiModel *model,
                                   const TipiStr *texts_given,
                                   size_t count,
                                   TipiFeatures **features);

// CLIP's own classifier, from words alone (arXiv 2103.00020). Every template is a prompt with {} where the class's name goes; several
// are averaged.
//
// Ownership: the texts are copied. `*classifier` is the caller's, to be freed with `tipi_free`. It keeps the model.
TipiStatus tipi_model_zero_shot(const TipiModel *model,
                                const TipiStr *classes,
                                size_t class_count,
                                const TipiStr *templates,
                                size_t template_count,
                                TipiClassifier **classifier);

// CLIP's own classifier of classes that have prompts of their own; those of a class are averaged. `prompts` are those of the first class,
// then those of the second, …; `prompt_counts[i]` of them belong to class `i`, and `prompt_count` is their sum.
//
// Ownership: the texts are copied. `*classifier` is the caller's, to be freed with `tipi_free`. It keeps the model.
TipiStatus tipi_model_zero_shot_of(const TipiModel *model,
                                   const TipiStr *classes,
                                   const size_t *prompt_counts,
                                   size_t class_count,
                                   const TipiStr *prompts,
                                   size_t prompt_count,
                                   TipiClassifier **classifier);

// Makes examples that have nothing in them yet.
//
// Ownership: `*examples` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_examples_new(TipiExamples **examples);

// All pictures of a folder with a sub-folder for each class, whose name names it, to learn from.
//
// Ownership: `folder` is copied. `*examples` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_examples_of_folder(TipiStr folder, TipiExamples **examples);

// Adds all pictures of a list to learn from. The first one of a class makes the class.
//
// Ownership: `class_name` is copied; the list stays the caller's.
TipiStatus tipi_examples_add(TipiExamples *examples, TipiStr class_name, const TipiPictures *pictures);

// Adds all pictures of a list to validate on: they choose settings and make confidence true, and nothing is learned from them.
//
// Ownership: `class_name` is copied; the list stays the caller's.
TipiStatus tipi_examples_add_validation(TipiExamples *examples,
                                        TipiStr class_name,
                                        const TipiPictures *pictures);

// Takes all pictures and classes away. What was computed of them is still remembered.
//
// Ownership: none.
TipiStatus tipi_examples_clear(TipiExamples *examples);

// How much there is.
//
// Ownership: none.
TipiStatus tipi_examples_info(const TipiExamples *examples, TipiExamplesInfo *info);

// The name of the class of this number, from 0 on, in the order in which they came.
//
// Ownership: `*name` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_examples_class(const TipiExamples *examples, size_t number, TipiText **name);

// Chooses by chance, always the same way for a `seed`: of the pictures to learn from `shots` of each class, and of the rest as many, up to
// four, to validate on. A class that has fewer gives all it has, which the watch is told. 0 shots takes all of every class, and
// puts none aside. Pictures that cannot be decoded are left out, and told in `left_out`. `tipi fit` chooses the same. `watch` and
// `left_out` may be NULL.
//
// Ownership: `*chosen` and `*left_out` are the caller's, to be freed with `tipi_free`.
TipiStatus tipi_examples_choose(const TipiExamples *examples,
                                size_t shots,
                                uint64_t seed,
                                const TipiWatch *watch,
                                TipiExamples **chosen,
                                TipiMessages **left_out);

// The same examples without pictures that cannot be decoded, which are told in `left_out`. `watch` and `left_out` may be NULL.
//
// Ownership: `*sound` and `*left_out` are the caller's, to be freed with `tipi_free`.
TipiStatus tipi_examples_sound(const TipiExamples *examples,
                               const TipiWatch *watch,
                               TipiExamples **sound,
                               TipiMessages **left_out);

// How many methods there are.
//
// Ownership: none.
size_t tipi_method_count(void);

// The method of this number, from 0 on, in the order in which tables have them.
//
// Ownership: the texts of `*method` are there as long as the process is.
TipiStatus tipi_method_get(size_t number, TipiMethod *method);

// The settings of the method of this name, as a JSON array of {"name", "help", "default"}.
//
// Ownership: `method` is copied. `*settings` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_method_settings(TipiStr method, TipiText **settings);

// Learns from examples. `report` says how it went. `watch` and `report` may be NULL.
//
// Ownership: the options are copied. `*classifier` and `*report` are the caller's, to be freed with `tipi_free`. The classifier keeps
// the model.
TipiStatus tipi_model_fit(const TipiModel *model,
                          const TipiExamples *examples,
                          const TipiFitOptions *fit_options,
                          const TipiWatch *watch,
                          TipiClassifier **classifier,
                          TipiReport **report);

// How learning went.
//
// Ownership: the losses of `*info` are those of `report`.
TipiStatus tipi_report_get(const TipiReport *report, TipiReportInfo *info);

// Trains an overlap correction to tell generic examples apart: many classes, and none of those that are told apart with it later. `options`
// is a JSON object of epochs, bottleneck, scale, dropout, rate, batch, micro_batch, seed, checkpoint and, for training from the
// pictures alone, self_supervision: {} or {"head", "local_crops", "momentum"}. What is not in it, or all where it is empty, is the paper's.
// `watch` and `report` may be NULL.
//
// Ownership: `options` is copied. `*correction` and `*report` are the caller's, to be freed with `tipi_free`. The correction keeps the
// model.
TipiStatus tipi_model_fit_correction(const TipiModel *model,
                                     const TipiExamples *examples,
                                     TipiStr options,
                                     const TipiWatch *watch,
                                     TipiCorrection **correction,
                                     TipiReport **report);

// Reads a correction that `tipi_correction_save` or `tipi fit overlap` wrote for this model.
//
// Ownership: `path` is copied. `*correction` is the caller's, to be freed with `tipi_free`. It keeps the model.
TipiStatus tipi_model_open_correction(const TipiModel *model, TipiStr path, TipiCorrection **correction);

// The same from the `length` bytes of such a file; `name` names them in errors.
//
// Ownership: `name` and `bytes` are copied. `*correction` is the caller's, to be freed with `tipi_free`. It keeps the model.
TipiStatus tipi_model_correction_from_bytes(const TipiModel *model,
                                            TipiStr name,
                                            const uint8_t *bytes,
                                            size_t length,
                                            TipiCorrection **correction);

// What a correction is.
//
// Ownership: the texts of `*info` are those of `correction`.
TipiStatus tipi_correction_info(const TipiCorrection *correction, TipiCorrectionInfo *info);

// The name of the class of this number, from 0 on, that it was trained to tell apart.
//
// Ownership: `*name` is that of `correction`.
TipiStatus tipi_correction_class(const TipiCorrection *correction, size_t number, TipiStr *name);

// Writes a file that `tipi_model_open_correction` and `--correction` of `tipi` read. An adapter that is there already is overwritten, any
// other file is not.
//
// Ownership: `path` is copied.
TipiStatus tipi_correction_save(const TipiCorrection *correction,
                                TipiStr path);

// The same as bytes. Equal corrections give equal ones.
//
// Ownership: `*bytes` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_correction_to_bytes(const TipiCorrection *correction, TipiBytes **bytes);

// Reads an adapter that `tipi_classifier_save` or `tipi fit` wrote for this model.
//
// Ownership: `path` is copied. `*classifier` is the caller's, to be freed with `tipi_free`. It keeps the model.
TipiStatus tipi_model_open_adapter(const TipiModel *model, TipiStr path, TipiClassifier **classifier);

// The same from the `length` bytes of such a file; `name` names them in errors.
//
// Ownership: `name` and `bytes` are copied. `*classifier` is the caller's, to be freed with `tipi_free`. It keeps the model.
TipiStatus tipi_model_adapter_from_bytes(const TipiModel *model,
                                         TipiStr name,
                                         const uint8_t *bytes,
                                         size_t length,
                                         TipiClassifier **classifier);

// What a classifier is.
//
// Ownership: the texts and thresholds of `*info` are those of `classifier`.
TipiStatus tipi_classifier_info(const TipiClassifier *classifier, TipiClassifierInfo *info);

// The name of the class of this number, from 0 on, in the order of scores and probabilities.
//
// Ownership: `*name` is that of `classifier`.
TipiStatus tipi_classifier_class(const TipiClassifier *classifier, size_t number, TipiStr *name);

// The same classifier, but answering "unknown" where the likeliest class is less probable than `probability`, from 0 to 1.
//
// Ownership: `*asking` is the caller's, to be freed with `tipi_free`. It shares all else with `classifier`, which may be freed first.
TipiStatus tipi_classifier_asking_for(const TipiClassifier *classifier,
                                      double probability,
                                      TipiClassifier **asking);

// The same classifier, but answering "unknown" to what is not like the pictures it knows: of pictures that are of one of its classes, at
// least the share `keep`, from 0 to 1, gets an answer. `by` is a `TipiUnknownBy`.
//
// Ownership: `*keeping` is the caller's, to be freed with `tipi_free`. It shares all else with `classifier`, which may be freed first.
TipiStatus tipi_classifier_keeping(const TipiClassifier *classifier,
                                   double keep,
                                   int32_t by,
                                   TipiClassifier **keeping);

// The same classifier, but saying of each picture which classes it may be of (`tipi_predictions_set`): the smallest sets that hold the
// right one with probability `coverage`, from 0 to 1; of pictures of all classes together or, where `per_class` is not 0, of each class.
//
// Ownership: `*covering` is the caller's, to be freed with `tipi_free`. It shares all else with `classifier`, which may be freed first.
TipiStatus tipi_classifier_covering(const TipiClassifier *classifier,
                                    double coverage,
                                    int32_t per_class,
                                    TipiClassifier **covering);

// The same classifier, taking exactly `pictures` at a time, from 1 to 65536, whether there is memory for so many or not; otherwise it takes
// up to 32, as memory allows. Answers do not depend on it.
//
// Ownership: `*batched` is the caller's, to be freed with `tipi_free`. It shares all else with `classifier`, which may be freed first.
TipiStatus tipi_classifier_in_batches_of(const TipiClassifier *classifier,
                                         size_t pictures,
                                         TipiClassifier **batched);

// What pictures show, in their order. One that cannot be read or decoded has a status and a message in the answers, and is no failure of
// this function. The first call records the way from pixels to scores, which the following ones take. `watch` may be NULL.
//
// Ownership: `*predictions` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_classifier_predict(const TipiClassifier *classifier,
                                   const TipiPictures *pictures,
                                   const TipiWatch *watch,
                                   TipiPredictions **predictions);

// What pictures with these features of `tipi_model_encode` show.
//
// Ownership: `*predictions` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_classifier_predict_features(const TipiClassifier *classifier,
                                            const TipiFeatures *features,
                                            TipiPredictions **predictions);

// Writes an adapter file, which `tipi_model_open_adapter` and `tipi predict` read. An adapter that is there already is overwritten, any
// other file is not.
//
// Ownership: `path` is copied.
TipiStatus tipi_classifier_save(const TipiClassifier *classifier,
                                TipiStr path);

// The same as bytes. Equal adapters give equal ones.
//
// Ownership: `*bytes` is the caller's, to be freed with `tipi_free`.
TipiStatus tipi_classifier_to_bytes(const TipiClassifier *classifier, TipiBytes **bytes);

// Gives back the GPU memory that was kept for the next pictures. They take a little longer then.
//
// Ownership: none.
TipiStatus tipi_classifier_release(const TipiClassifier *classifier);

// How many pictures there are answers for.
//
// Ownership: none.
TipiStatus tipi_predictions_count(const TipiPredictions *predictions, size_t *count);

// What is said of the picture of this number, from 0 on.
//
// Ownership: the texts and arrays of `*prediction` are those of `predictions`.
TipiStatus tipi_predictions_get(const TipiPredictions *predictions, size_t number, TipiPrediction *prediction);

// The likeliest classes of the picture of this number, the likeliest first: as many as `most`, which `top` has place for, or as there are.
// `written` is how many.
//
// Ownership: `top` is the caller's, and written to; its texts are those of `predictions`.
TipiStatus tipi_predictions_top(const TipiPredictions *predictions,
                                size_t number,
                                size_t most,
                                TipiScored *top,
                                size_t *written);

// The classes that the picture of this number may be of, the likeliest first: as many as `most`, which `set` has place for. `count` is how
// many there are in all, at least 1; 0 where sets were not asked for (`tipi_classifier_covering`).
//
// Ownership: `set` is the caller's, and written to; its texts are those of `predictions`.
TipiStatus tipi_predictions_set(const TipiPredictions *predictions,
                                size_t number,
                                size_t most,
                                TipiScored *set,
                                size_t *count);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TIPI_H */

// A string that ends with NUL, as a TipiStr; NULL is empty.
static inline TipiStr tipi_str(const char *text)
{
    TipiStr string;
    string.data = text;
    string.length = text ? strlen(text) : 0;
    return string;
}
