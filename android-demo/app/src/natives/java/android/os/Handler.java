package android.os;

/** Stands in for Android's, of which the app's answers need one method: whatever is posted runs at once, in the caller's thread. */
public class Handler {
    public final boolean post(Runnable work) {
        work.run();
        return true;
    }
}
