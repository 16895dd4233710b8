/**
 * tipi in a page: few-shot CLIP on WebGPU. Everything is done in a worker, on the GPU that is there, and nothing leaves the page.
 *
 * Every call that fails rejects with a {@link TipiError}. Calls are done in their order, one at a time.
 */

/** An error. `kind` is the library's name for it: Invalid, Image, Config, NoDevice, DeviceLost, OutOfMemory, Stopped, Crashed, … */
export declare class TipiError extends Error {
    readonly kind: string;
    constructor(kind: string, message: string);
}

/** What this browser lacks to run tipi, in words; null where it lacks nothing. */
export declare function missing(): string | null;

/** How far a call is. */
export interface Progress {
    /** What is done, as "encoding pictures". */
    readonly what: string;
    readonly done: number;
    readonly total: number;
    /** What may stand beside it: an epoch, a loss. */
    readonly words: string;
}

/** What watches a call. */
export interface Watch {
    /**
     * Stops the call within one submission to the GPU; it then rejects with the kind Stopped. `load`, `zeroShot` and `encodeTexts` are stopped
     * while they fetch or wait, not once the GPU is at work.
     */
    signal?: AbortSignal;
    onProgress?: (progress: Progress) => void;
    /** Something that people should know. */
    onNote?: (note: string) => void;
}

/** A picture: a file (PNG, JPEG, WebP, GIF, BMP, TIFF) as a blob or as bytes, or pixels. An ImageBitmap is copied: close it yourself. */
export type Picture = Blob | ArrayBuffer | Uint8Array | ImageData | ImageBitmap;

/** A model's file: its address, a blob (of which only what is needed comes into memory) or its bytes. */
export type ModelFile = string | URL | Blob | ArrayBuffer | Uint8Array;

/** A frozen CLIP on the GPU. */
export declare class Model {
    private constructor();
    /**
     * Loads a model: from a folder's address, whose config.json, preprocessor_config.json, tokenizer.json and model.safetensors (or
     * model.safetensors.index.json and its shards) are fetched and kept in the browser's cache until the server has others; from files that a person chose; or from an object of files by their names.
     */
    static load(
        files: string | URL | FileList | File[] | Record<string, ModelFile>,
        options?: {
            /** What results and adapters call the model. */
            name?: string;
            /** How the frozen matrices are stored. "f16" takes half the memory, "int8" a quarter. */
            precision?: 'f32' | 'f16' | 'int8';
        } & Watch,
    ): Promise<Model>;
    /** Values of a picture's or a text's features. */
    readonly width: number;
    /** Un-normalised features, [n, width] in rows. */
    encodeImages(pictures: Picture | Picture[], watch?: Watch): Promise<Float32Array>;
    /**
     * Un-normalised features, [n, width] in rows, of pictures that were prepared elsewhere: values [n, 3, R, R], normalised, as the
     * checkpoint's own preprocessor makes them.
     */
    encodePixels(values: Float32Array, watch?: Watch): Promise<Float32Array>;
    /** Un-normalised features, [n, width] in rows. What is longer than the model reads is cut. */
    encodeTexts(texts: string | string[], watch?: Watch): Promise<Float32Array>;
    /** A classifier from words alone. Templates have {} where the class's name goes; several are averaged. */
    zeroShot(classes: string[], templates?: string | string[], watch?: Watch): Promise<Classifier>;
    /** Learns from examples. The same seed gives the same adapter on the same device. */
    fit(
        method: string,
        examples: Examples | Record<string, Picture[]>,
        options?: {
            /** The method's settings by their names ({@link methods}); the paper's where there are none. */
            settings?: Record<string, unknown>;
            /** How pictures are seen and parameters searched: key_views, augment, views, grid, judge_by. */
            how?: Record<string, unknown>;
            /** Prompts with {} where the class's name goes. "a photo of a {}." by default. */
            template?: string | string[];
            /** The prompt's words before the class's name, for PiNI. Those of the first template by default. */
            words?: string;
            seed?: number;
            correction?: Correction;
        } & Watch,
    ): Promise<Fitted>;
    /** An adapter that was saved here, or by the program, for this model. */
    loadAdapter(adapter: Blob | ArrayBuffer | Uint8Array, options?: { name?: string }): Promise<Classifier>;
    /** A correction that `tipi fit overlap` wrote for this model. */
    loadCorrection(correction: Blob | ArrayBuffer | Uint8Array, options?: { name?: string }): Promise<Correction>;
    /** Gives back the GPU memory that is kept for the next pictures. */
    release(): Promise<void>;
    /** Gives the model back. Classifiers made with it stay. */
    free(): void;
}

/** What was learned, and how that went. */
export interface Fitted {
    readonly classifier: Classifier;
    /** Cross-entropy by epoch, where something was trained. */
    readonly losses: Float32Array;
    /** Share of validation pictures that are right, from 0 to 1; null where there are none. */
    readonly validationAccuracy: number | null;
    readonly validationPictures: number;
}

/** A correction of intra-modal overlap, for methods that need one. */
export declare class Correction {
    private constructor();
    free(): void;
}

/** Pictures with their classes. What a fit computes of them is remembered: the next one, with an example more, takes little time. */
export declare class Examples {
    private constructor();
    static create(): Promise<Examples>;
    static of(pictures: Record<string, Picture[]>): Promise<Examples>;
    readonly classes: string[];
    /** Adds pictures to learn from. The first one of a class makes the class. */
    add(name: string, pictures: Picture | Picture[]): Promise<void>;
    /** Adds pictures to validate on: they choose settings and make confidence true. */
    addValidation(name: string, pictures: Picture | Picture[]): Promise<void>;
    free(): void;
}

/** A class, and what is said of it. */
export interface Scored {
    readonly name: string;
    /** From 0 to 1. */
    readonly probability: number;
    /** Its logit. */
    readonly score: number;
}

/** What a classifier says of a picture. */
export interface Prediction {
    /** The likeliest class; null where the picture is unlike all that it knows (`keep`). */
    readonly class: string | null;
    /** All classes, the likeliest first. */
    readonly top: Scored[];
    /** By class, in the classifier's order. */
    readonly probabilities: Float64Array;
    readonly scores: Float32Array;
    /** How much the picture is like what is known; null where `keep` was not given. */
    readonly familiarity: number | null;
    readonly error?: undefined;
}

/** A picture that cannot be read. */
export interface Unread {
    readonly error: string;
    readonly kind: string;
}

export declare class Classifier {
    private constructor();
    readonly classes: string[];
    /** The method's name; null for words alone. */
    readonly method: string | null;
    /** Answers for pictures, in their order. */
    predict(
        pictures: Picture | Picture[],
        options?: {
            /** Share of pictures of the classes that is kept, from 0 to 1; the rest is unknown. Needs evidence from learning. */
            keep?: number;
            /** What tells the unknown: "distance" by default. */
            unknownBy?: 'probability' | 'energy' | 'distance';
        } & Watch,
    ): Promise<(Prediction | Unread)[]>;
    /** The adapter as a file's bytes: the file that `tipi fit` writes and `tipi predict` reads. */
    saveAdapter(): Promise<Uint8Array>;
    free(): void;
}

/** A setting of a method. */
export interface Setting {
    readonly name: string;
    readonly help: string;
    readonly default: unknown;
}

/** A way to learn from few pictures. */
export interface Method {
    readonly name: string;
    readonly title: string;
    readonly about: string;
    readonly paper: string;
    readonly needsCorrection: boolean;
    readonly trains: boolean;
    readonly settings: Setting[];
}

/** All methods. */
export declare function methods(): Promise<Method[]>;

/** The GPU. */
export interface Device {
    readonly name: string;
    readonly kind: string;
    readonly about: string;
    /** What tipi uses of it, for people. */
    readonly capabilities: string;
    /** Bytes of its memory that tipi has now, and had at most. */
    readonly allocatedBytes: number;
    readonly peakBytes: number;
}

/** The GPU that is used. */
export declare function device(): Promise<Device>;

/** Ends the worker. What it held is gone; the next call starts a new one. */
export declare function close(): void;
