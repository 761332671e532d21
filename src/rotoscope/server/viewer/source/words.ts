/** Every word that the page shows. Another language is another file like this one. */

const plural = (n: number, one: string, many: string) => `${n} ${n === 1 ? one : many}`;

interface ChangeNumbers { inside: number | null; outside: number | null; psnr: number | null; frames: number; restored: boolean }

export const words = {
  product: "rotoscope",
  tools: {
    segment_image: "Masks",
    describe_with_masks: "Description with masks",
    generate_video: "Film",
    edit_video_with_mask: "Edited film",
    segment_video: "Mask film",
  } as Record<string, string>,
  job: "Job",
  statuses: {
    queued: "Waiting",
    running: "Running",
    succeeded: "Done",
    failed: "Failed",
    cancelled: "Cancelled",
    needs_review: "Needs a look",
  } as Record<string, string>,
  sandbox: "Sandbox",
  sandboxHint: "Computed by the built-in sandbox, not by the named model.",
  dryRun: "Price only",
  opening: "Opening the result.",
  waitingForTool: "The assistant is preparing the request.",
  hostSilent: "This chat has not answered yet. The result is also in its text.",
  noAnswer: "There is no answer.",
  refused: (tool: string) => `${tool}: refused`,
  noResult: "There is nothing to show yet.",
  toolCancelled: "The call was stopped before it gave a result. A run that was paid for goes on: ask for its job.",

  // pictures and masks
  picture: (w: number, h: number, n: number) => `Picture of ${w} by ${h} pixels with ${plural(n, "mask", "masks")}`,
  original: "Original",
  withMasks: "With masks",
  howToShow: "How to show the picture",
  modeMasks: "Masks",
  modeCut: "Cut-out",
  modeSide: "Side by side",
  opacity: "Opacity",
  masks: "Masks",
  allOn: "Show all",
  allOff: "Hide all",
  showMask: (label: string) => `Show mask: ${label}`,
  chooseMask: (label: string) => `Choose mask: ${label}`,
  area: (share: number) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} % of the picture`,
  score: (score: number) => `score ${score.toFixed(2)}`,
  emptyMask: "empty",
  description: "Description",
  moreMasks: (left: number) => `${plural(left, "more mask is", "more masks are")} in the COCO file.`,
  noOriginal: "The picture itself cannot be read here; its overlay stands in.",
  noMasks: "No mask was found.",
  openPicture: "Open the picture",
  noPixels: "The picture cannot be read here.",
  onlyPreview: "Only the small picture of the result can be shown here.",
  unread: "cannot be read here",

  // what can be done with them
  download: "Download",
  downloadOverlay: "Picture with masks",
  downloadCut: "Cut-out (PNG)",
  downloadMask: "Mask (PNG)",
  downloadFilm: "Film",
  downloadPoster: "Poster",
  downloadMaskFilm: "Mask film",
  downloadCoco: "COCO (JSON)",
  downloaded: (name: string) => `${name} was handed over for download.`,
  downloadHint: (place: string) => `If nothing was saved, the file is here: ${place}`,
  copyCoco: "Copy as COCO",
  copied: "Copied.",
  copyByHand: "Copy the text from this field.",
  useMask: "Use as mask for an edit",
  useMaskMessage: (label: string, link: string) =>
    `Use the mask "${label}" (${link}) as the mask for edit_video_with_mask. Ask me for the video and the change first.`,
  messageSent: "The next message was handed to the chat.",
  messageCopied: "The words for the chat were copied. Paste them there.",

  // correcting a mask
  correct: "Correct this mask",
  noCorrect: "This chat lets the page run no tools: ask the assistant to correct a mask.",
  correcting: "Correct the mask",
  correctHelp:
    "Click what belongs to the object. Choose Remove, or hold Alt, for what does not. Drag to draw a box. " +
    "By keys: arrows move the cross, Enter sets a point, B begins and ends a box, Backspace takes the last back.",
  addPoints: "Add",
  removePoints: "Remove",
  pointKind: "What a click means",
  undo: "Take back",
  clear: "Start again",
  runAgain: "Segment again",
  runPrice: (price: string) => `Runs the model again: ${price}.`,
  stop: "Stop correcting",
  back: "Back to the mask before",
  marks: (points: number, box: boolean) =>
    `${plural(points, "point", "points")}${box ? " and a box" : ""}.`,
  correctedContext: (link: string) => `The person corrected the mask in the viewer. The new result is ${link}.`,
  crossAt: (x: number, y: number) => `Cross at ${x}, ${y}`,

  // a price that needs a yes
  priceChip: "Price",
  priceGoOn: "Run it?",
  priceAsk: (cost: string) => `This run costs ${cost}. Run it?`,
  priceYes: "Yes, run it",
  priceNo: "No",
  priceSent: "Running.",
  priceRefused: "Nothing was run or spent.",
  answerLost: "This chat does not pass the answer on. Ask the assistant to run it.",
  answerInChat: "Answer the assistant in the chat.",
  agreeMessage: "Yes, I agree to this price. Run it.",
  agreedContext: (link: string) => `The person agreed to the price in the viewer. The call runs as ${link}: do not call it again.`,

  // films
  film: (w: number, h: number, seconds: number) => `Film of ${w} by ${h} pixels, ${seconds.toFixed(1)} seconds`,
  filmBefore: "Film before the edit",
  play: "Play",
  pause: "Pause",
  position: "Position in the film",
  mute: "Sound off",
  unmute: "Sound on",
  loop: "Repeat",
  stepBack: "One frame back",
  stepOn: "One frame on",
  howToCompare: "How to compare",
  after: "After",
  compare: "Before and after",
  sideBySide: "Side by side",
  divider: "Where before ends and after begins",
  beforeTag: "Before",
  afterTag: "After",
  filmstrip: "Filmstrip: choose a moment",
  noFilm: "This chat does not play films here.",
  filmTooLarge: (size: string) => `The film (${size}) is too large to be played inside the chat.`,
  framesBelow: "Its frames are here.",
  openFilm: "Open the film",
  openByCommand: (job: string) => `It opens in a browser by: rotoscope view ${job}`,
  fileAt: (place: string) => `File: ${place}`,

  // a job that runs
  progress: "Progress",
  elapsed: "So far",
  expected: "Usually",
  left: "Left, about",
  longer: "longer than usual",
  cost: "Cost",
  estimate: (usd: string) => `about ${usd}`,
  atMost: (usd: string) => `at most ${usd}`,
  costUnknown: "not known",
  free: "free",
  cancel: "Cancel the job",
  cancelSure: "Cancel it? The provider may charge it all the same.",
  cancelYes: "Yes, cancel",
  cancelNo: "Let it run",
  cancelling: "Cancelling.",
  pollFailed: "The server does not answer; it is asked again.",
  noWatch: "This chat lets the page ask for nothing: ask the assistant how the job is getting on, or to cancel it.",
  saidProgress: (percent: number) => `${percent} percent.`,
  saidDone: "The job is done.",
  saidFailed: "The job has failed.",
  saidCancelled: "The job was cancelled.",
  saidReview: "The job needs a person's look.",
  asked: "Request",

  // ends
  nextStep: "Next",
  whatWasCharged: "Charged",
  files: "Files that came all the same",
  fileOf: (n: number, kind: string) => `File ${n} (${kind || "unknown kind"})`,
  details: "Details",
  model: "Model",
  provider: "Provider",
  run: "Run",
  seed: "Seed",
  time: "Time",
  changed: "Changed pixels",
  changes: ({ inside, outside, psnr, frames, restored }: ChangeNumbers) => {
    const share = (part: number | null) => (part === null ? "none" : `${(part * 100).toFixed(1)} %`);
    const near = psnr === null ? "" : ` (${psnr.toFixed(1)} dB)`;
    const kept = restored ? ", original laid back" : "";
    return `${share(inside)} inside the mask, ${share(outside)} outside${near}${kept}; ${plural(frames, "frame", "frames")}`;
  },
  warnings: "Notes",
  plan: "What would be run",
  leftOut: "Left out of this report",
  chargedUnknown: "not known",
  chargedNothing: "nothing",
  reportMade: (when: string) => `Report of ${when}`,
  serverGone: "The server of this page has ended. Run rotoscope view again.",
};

export const seconds = (value: number): string => {
  const whole = Math.max(0, Math.round(value));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};

export const clock = (value: number): string => {
  const whole = Math.max(0, Math.floor(value));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

export const usd = (value: number): string =>
  value === 0 ? words.free : `${value.toFixed(value < 0.01 ? 4 : value < 1 ? 3 : 2)} USD`;

export const bytes = (value: number): string =>
  value < 1e6 ? `${Math.ceil(value / 1e3)} kB` : `${(value / 1e6).toFixed(1)} MB`;
